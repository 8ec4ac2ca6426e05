//! What became of a request on its way.

use sinew_plane::{Error, InstanceId, TransportId};

use crate::Why;

/// The `transport` of a request that was answered within the process, without any.
pub const LOCAL: TransportId = TransportId::from_static("local");

/// Who serves a request, why, and what was tried before.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Explanation {
    /// Who serves it.
    pub instance: InstanceId,
    /// By which rule it was chosen.
    pub why: Why,
    /// What carries it; [`LOCAL`] for a call within the process.
    pub transport: TransportId,
    /// The attempts that failed before, in their order: none in the ordinary case.
    pub attempts: Vec<(InstanceId, Error)>,
}
