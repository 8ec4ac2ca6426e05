//! How much is admitted.

/// Limits of a process.
#[derive(Debug, Clone)]
pub struct IngressConfig {
    /// Requests in flight over all endpoints; more are refused as `Overloaded`. Default 8,192:
    /// with the default window of 256 KiB they keep at most 2 GiB for callers that do not read,
    /// and at most 8 GiB for callers that ask for as much as a transport keeps (1 MiB each). Lower
    /// it, or the transport's `max_window`, on a machine with less.
    pub max_in_flight: usize,
}

impl Default for IngressConfig {
    fn default() -> Self {
        Self { max_in_flight: 8_192 }
    }
}

/// Limits of one served endpoint.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Requests in flight; more are refused as `Overloaded` at once, none is queued. Default
    /// 1,024. Set it to what the handler can really work on.
    pub max_in_flight: usize,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self { max_in_flight: 1_024 }
    }
}
