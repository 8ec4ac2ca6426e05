//! How much is admitted.

/// Limits of a process.
#[derive(Debug, Clone)]
pub struct IngressConfig {
    /// Requests in flight over all endpoints; more are refused as `Overloaded`. Default 8,192:
    /// with the default window of 256 KiB they hold at most 2 GiB, and in practice far less.
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
