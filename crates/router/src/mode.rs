//! How an instance is chosen.

use std::fmt;

use sinew_plane::InstanceId;

/// How a router chooses among the instances of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RouterMode {
    /// One after the other, each as often as its weight says.
    #[default]
    RoundRobin,
    /// By lot, with the odds of the weights.
    Random,
    /// Always the same one. Signed ids of the design documents go through `InstanceId::from`.
    Direct(InstanceId),
}

impl fmt::Display for RouterMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("round-robin"),
            Self::Random => f.write_str("random"),
            Self::Direct(id) => write!(f, "direct {id}"),
        }
    }
}
