//! The modes of a router, which name its strategies.

use std::fmt;

use sinew_plane::InstanceId;

/// How a router chooses among the instances of an endpoint.
///
/// The load of an instance is the number of requests of this router and its clones that it has in
/// flight, in all modes together. Between equal loads the choice is random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RouterMode {
    /// One after the other, each as often as its weight says (weighted round robin).
    #[default]
    RoundRobin,
    /// At random, with the probabilities of the weights.
    Random,
    /// The less loaded, relative to its weight, of two that are drawn at random. Several routers,
    /// each of which counts only its own requests, then do not all choose the same instance.
    PowerOfTwoChoices,
    /// The least loaded of all, relative to its weight.
    LeastLoaded,
    /// Always the instance with this id. For an id that another system keeps as a signed number use
    /// `InstanceId::from`.
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
