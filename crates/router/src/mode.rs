//! How an instance is chosen.

use std::fmt;

use sinew_plane::InstanceId;

/// How a router chooses among the instances of an endpoint.
///
/// Load is what this router and its clones have in flight at an instance, whatever the mode that
/// sent it there; equal loads are decided by lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RouterMode {
    /// One after the other, each as often as its weight says.
    #[default]
    RoundRobin,
    /// By lot, with the odds of the weights.
    Random,
    /// The less loaded of two drawn by lot, each relative to its weight. Several routers, each of
    /// which counts only its own requests, do not all choose the same instance this way.
    PowerOfTwoChoices,
    /// The least loaded of all, relative to its weight.
    LeastLoaded,
    /// Always the same one. An id that another system
    /// keeps as a signed number goes through `InstanceId::from`.
    Direct(InstanceId),
}

impl fmt::Display for RouterMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("round-robin"),
            Self::Random => f.write_str("random"),
            Self::PowerOfTwoChoices => f.write_str("power-of-two-choices"),
            Self::LeastLoaded => f.write_str("least-loaded"),
            Self::Direct(id) => write!(f, "direct {id}"),
        }
    }
}
