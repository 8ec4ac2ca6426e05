//! The explanation of a call: the instance that serves it, and the attempts before.

use std::sync::Arc;

use sinew_discovery::PlanePolicy;
use sinew_plane::{Error, InstanceId, TransportId};

use crate::{TransportMoves, Why};

/// The `transport` of a request that was answered within the process, without a transport.
pub const LOCAL: TransportId = TransportId::from_static("local");

/// Which instance serves a request, why it was chosen, and which attempts failed before.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Explanation {
    /// The instance that serves it.
    pub instance: InstanceId,
    /// The rule by which it was chosen.
    pub why: Why,
    /// The transport that carries it; [`LOCAL`] for a call within the process.
    pub transport: TransportId,
    /// The policy that chose the transport. `None` if the transport is the first of the default order
    /// that could be used.
    pub policy: Option<Arc<PlanePolicy>>,
    /// The moves of the running response between transports: also those that come later, until its
    /// end.
    pub moves: TransportMoves,
    /// The attempts that failed before, in their order. Usually empty.
    pub attempts: Vec<(InstanceId, Error)>,
}
