//! The address schemes of split exchanges.

use sinew_dynamo_wire::push_instance_path;
use sinew_plane::{Address, LatencyClass, OutgoingRequest, TransportId};

/// An address scheme: which request plane it stands for, and what the address of that plane is.
///
/// The schemes between Sinew processes are here. Those of other peers are defined with their
/// [`PeerCodec`](crate::PeerCodec).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitScheme {
    name: &'static str,
    latency: LatencyClass,
    makes_path: bool,
}

impl SplitScheme {
    /// `split-tcp://HOST:PORT[/PATH]`: a Sinew worker over Dynamo's TCP frames. Without a path, the
    /// path is made from the request.
    pub const TCP: Self =
        Self { makes_path: true, ..Self::new("split-tcp", LatencyClass::Network) };

    /// `nats://SUBJECT`: a Sinew worker over NATS.
    pub const NATS: Self = Self::new("nats", LatencyClass::Brokered);

    /// Makes a scheme with that name. Its request plane gets the text after `://`.
    pub const fn new(name: &'static str, latency: LatencyClass) -> Self {
        Self { name, latency, makes_path: false }
    }

    /// The text before `://`, which is also the name of the transport.
    pub const fn as_str(self) -> &'static str {
        self.name
    }

    /// The name of the transport.
    pub const fn transport(self) -> TransportId {
        TransportId::from_static(self.name)
    }

    pub(crate) const fn latency(self) -> LatencyClass {
        self.latency
    }

    /// The name of the transport for a request of Sinew that came over a plane. On the connections
    /// of the mux, whole exchanges have the plane's own name.
    pub(crate) fn of_plane(plane: &TransportId) -> TransportId {
        match plane.as_str() {
            "tcp" | "unix" => Self::TCP.transport(),
            _ => plane.clone(),
        }
    }

    /// What the request plane is given as address.
    pub(crate) fn plane_address(self, address: &Address, request: &OutgoingRequest) -> String {
        let rest = address.rest();
        if self.makes_path && !rest.contains('/') {
            let endpoint = request.endpoint.as_str();
            // With room for the longest number, so that it does not grow.
            let mut path = String::with_capacity(rest.len() + endpoint.len() + 18);
            path.push_str(rest);
            path.push('/');
            push_instance_path(&mut path, endpoint, request.instance);
            return path;
        }
        rest.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sinew_plane::InstanceId;

    use super::*;

    #[test]
    fn a_path_is_made_where_the_scheme_makes_one_and_the_address_has_none() {
        let name = "ns1/backend/generate".parse().unwrap();
        let request = OutgoingRequest::new(name, InstanceId(0x1f), Bytes::new());
        for (scheme, address, told) in [
            (SplitScheme::TCP, "split-tcp://h:1", "h:1/1f/ns1/backend/generate"),
            (SplitScheme::TCP, "split-tcp://h:1/2/a/b/c", "h:1/2/a/b/c"),
            (SplitScheme::NATS, "nats://ns1_backend.generate-1f", "ns1_backend.generate-1f"),
        ] {
            let address: Address = address.parse().unwrap();
            assert_eq!(scheme.plane_address(&address, &request), told);
        }
    }

    #[test]
    fn a_request_over_connections_of_the_mux_has_another_name_than_an_exchange_there() {
        for (plane, transport) in
            [("tcp", "split-tcp"), ("unix", "split-tcp"), ("nats", "nats"), ("http", "http")]
        {
            assert_eq!(SplitScheme::of_plane(&TransportId::new(plane)).as_str(), transport);
        }
    }
}
