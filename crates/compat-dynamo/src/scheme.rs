//! The four kinds of address of a split exchange.

use sinew_dynamo_wire::push_instance_path;
use sinew_plane::{Address, LatencyClass, OutgoingRequest, TransportId};

/// Which plane takes the request, and who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SplitScheme {
    /// `dynamo-tcp://HOST:PORT/PATH`: a Dynamo worker over its TCP frames.
    DynamoTcp,
    /// `dynamo-nats://SUBJECT`: a Dynamo worker over NATS.
    DynamoNats,
    /// `split-tcp://HOST:PORT[/PATH]`: a Sinew worker over Dynamo's TCP frames. Without a path
    /// it is made from the request.
    SplitTcp,
    /// `nats://SUBJECT`: a Sinew worker over NATS.
    Nats,
}

impl SplitScheme {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::DynamoTcp, Self::DynamoNats, Self::SplitTcp, Self::Nats];

    /// What stands before `://`, which is the name of the transport too.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DynamoTcp => "dynamo-tcp",
            Self::DynamoNats => "dynamo-nats",
            Self::SplitTcp => "split-tcp",
            Self::Nats => "nats",
        }
    }

    /// The name of the transport.
    pub const fn transport(self) -> TransportId {
        TransportId::from_static(self.as_str())
    }

    /// True when both ends are Sinew's, so that items travel without a wrapping.
    pub const fn is_bare(self) -> bool {
        matches!(self, Self::SplitTcp | Self::Nats)
    }

    /// The scheme of a request that arrived, by its plane and by who sent it.
    pub(crate) const fn of_arrival(over_nats: bool, is_bare: bool) -> Self {
        match (over_nats, is_bare) {
            (true, true) => Self::Nats,
            (true, false) => Self::DynamoNats,
            (false, true) => Self::SplitTcp,
            (false, false) => Self::DynamoTcp,
        }
    }

    pub(crate) const fn latency(self) -> LatencyClass {
        match self {
            Self::DynamoTcp | Self::SplitTcp => LatencyClass::Network,
            Self::DynamoNats | Self::Nats => LatencyClass::Brokered,
        }
    }

    /// What the request plane is given as address.
    pub(crate) fn plane_address(self, address: &Address, request: &OutgoingRequest) -> String {
        let rest = address.rest();
        if self == Self::SplitTcp && !rest.contains('/') {
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
