//! What a transport can do, as values that can be compared and advertised.

use std::{borrow::Cow, fmt};

/// The name of a transport: `tcp`, `unix`, `memory`, `nats`, ... or a user's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransportId(Cow<'static, str>);

impl TransportId {
    /// Makes the id of a transport whose name is known at compile time.
    pub const fn from_static(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Makes the id of a transport that is named at run time.
    pub fn new(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    /// The name, as metric labels and address schemes spell it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which half of an exchange a transport carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlaneType {
    /// How a request reaches an instance.
    Request,
    /// How its response stream comes back.
    Response,
}

/// In which directions items can stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Directions {
    /// One request, one acknowledgement.
    Acknowledge,
    /// One request, a stream of responses.
    Respond,
    /// Streams both ways.
    Both,
}

/// How far away the other end typically is; smaller is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LatencyClass {
    /// The same process: well under 1 microsecond a hop.
    Process,
    /// The same host: some microseconds a hop.
    Host,
    /// Directly over the network.
    Network,
    /// Through a broker or proxy.
    Brokered,
}

/// What a transport can do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportCapabilities {
    /// In which directions items can stream.
    pub directions: Directions,
    /// Largest request body or item, in bytes.
    pub max_message_bytes: usize,
    /// Items arrive in the order in which they were sent.
    pub ordered: bool,
    /// The transport encrypts by itself.
    pub encrypted: bool,
    /// Ordinary HTTP proxies and balancers let it through.
    pub proxy_safe: bool,
    /// A stream can be attached again over a new connection.
    pub resumable: bool,
    /// How far away the other end typically is.
    pub latency: LatencyClass,
}

impl TransportCapabilities {
    /// The capabilities of an ordered, unencrypted, direct network transport with response streams
    /// and the given limit. Change the fields that differ.
    pub const fn streaming(max_message_bytes: usize) -> Self {
        Self {
            directions: Directions::Respond,
            max_message_bytes,
            ordered: true,
            encrypted: false,
            proxy_safe: false,
            resumable: false,
            latency: LatencyClass::Network,
        }
    }

    /// The same for a transport whose other end is this far away.
    #[must_use]
    pub const fn with_latency(mut self, latency: LatencyClass) -> Self {
        self.latency = latency;
        self
    }

    /// The same for a transport that encrypts by itself, or does not. A transport that says so
    /// carries calls that [require](TransportRequirements::encrypted) it.
    #[must_use]
    pub const fn with_encryption(mut self, encrypted: bool) -> Self {
        self.encrypted = encrypted;
        self
    }

    /// True if these capabilities meet everything in `required`.
    pub fn satisfy(&self, required: &TransportRequirements) -> bool {
        self.directions >= required.directions
            && self.max_message_bytes >= required.message_bytes
            && (self.ordered || !required.ordered)
            && (self.encrypted || !required.encrypted)
            && (self.proxy_safe || !required.proxy_safe)
            && (self.resumable || !required.resumable)
    }
}

/// What an exchange needs from a transport. The default needs a response stream and nothing
/// else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportRequirements {
    /// At least these directions.
    pub directions: Directions,
    /// Messages of at least this many bytes.
    pub message_bytes: usize,
    /// Order must hold.
    pub ordered: bool,
    /// Must be encrypted.
    pub encrypted: bool,
    /// Must pass ordinary HTTP proxies.
    pub proxy_safe: bool,
    /// Must be able to attach again.
    pub resumable: bool,
}

impl Default for TransportRequirements {
    fn default() -> Self {
        Self {
            directions: Directions::Respond,
            message_bytes: 0,
            ordered: true,
            encrypted: false,
            proxy_safe: false,
            resumable: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_requirement_can_rule_a_transport_out() {
        let plain = TransportCapabilities::streaming(1024);
        let base = TransportRequirements::default();
        assert!(plain.satisfy(&base));
        for required in [
            TransportRequirements { directions: Directions::Both, ..base.clone() },
            TransportRequirements { message_bytes: 1025, ..base.clone() },
            TransportRequirements { encrypted: true, ..base.clone() },
            TransportRequirements { proxy_safe: true, ..base.clone() },
            TransportRequirements { resumable: true, ..base },
        ] {
            assert!(!plain.satisfy(&required), "{required:?}");
        }
    }
}
