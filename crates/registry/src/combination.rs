//! Which pairs of a request and a response transport can serve one exchange.

use sinew_plane::TransportId;

/// How the two halves of an exchange belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// The response comes back on the connection that carried the request.
    Duplex,
    /// The worker acknowledges the request, then connects to the caller and sends the response on
    /// that connection.
    Split,
}

/// One supported pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combination {
    /// What carries the request.
    pub request: TransportId,
    /// What carries the response.
    pub response: TransportId,
    /// How they belong together.
    pub exchange: Exchange,
}
