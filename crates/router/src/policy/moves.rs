//! The moves of one response between transports.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use sinew_plane::TransportId;

/// Most moves that are kept of one response. A policy moves a stream once there and once back.
const MAX_KEPT: usize = 64;

/// A move of a running response from one transport to another, because of a plane policy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportMove {
    /// The transport that it left.
    pub from: TransportId,
    /// The transport that it goes on over.
    pub to: TransportId,
    /// How many items had arrived at about that time.
    pub at_item: u64,
    /// The version of the policy.
    pub version: u64,
    /// True if the policy was rolled back.
    pub is_rollback: bool,
}

impl fmt::Display for TransportMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, at_item, version, is_rollback } = self;
        let why = if *is_rollback { "rollback of policy" } else { "policy" };
        write!(f, "from {from} to {to} at item {at_item}, {why} version {version}")
    }
}

/// The moves of one response between transports. Clones share it, so it shows also moves that come
/// later.
#[derive(Debug, Clone, Default)]
pub struct TransportMoves(Option<Arc<Mutex<Vec<TransportMove>>>>);

impl TransportMoves {
    /// A list that keeps what is added. The default one keeps nothing and costs nothing.
    pub(crate) fn kept() -> Self {
        Self(Some(Arc::default()))
    }

    /// All moves until now, in their order; the first 64 at the most.
    pub fn all(&self) -> Vec<TransportMove> {
        self.0.as_ref().map(|kept| kept.lock().clone()).unwrap_or_default()
    }

    pub(crate) fn add(&self, moved: impl FnOnce() -> TransportMove) {
        if let Some(kept) = &self.0 {
            let mut kept = kept.lock();
            if kept.len() < MAX_KEPT {
                kept.push(moved());
            }
        }
    }
}
