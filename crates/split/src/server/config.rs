//! Settings of the serving side.

use std::{sync::Arc, time::Duration};

use sinew_plane::Budget;

use crate::PeerCodec;

/// Limits of a [`SplitServer`](crate::SplitServer), and the peers that it serves.
#[derive(Debug, Clone)]
pub struct SplitServerConfig {
    /// Most accepted requests whose caller has not been dialled yet. Each is a task that waits for
    /// a connection. One caller gets at most half of the places, and the callers of one host three
    /// quarters. Default 8,192.
    pub max_pending: usize,
    /// Most bytes of payload of those requests together, shared in the same way. Default 512 MiB.
    pub max_pending_bytes: usize,
    /// Longest time from the acceptance of a request until the server has reached its caller. Until
    /// then the request has its place here and its place among the requests in flight of its
    /// endpoint, because a request that was accepted is not refused. A caller that cannot be dialled
    /// occupies them for no longer. Default 20 s, which is more than the limits of the call-home
    /// plane allow.
    pub reach_timeout: Duration,
    /// Largest item for peers whose items are wrapped, in bytes. Default 31 MiB, which with the
    /// wrapping stays under the 32 MiB that receivers take.
    pub max_item_bytes: usize,
    /// The memory budget of the process. Each of those requests is charged 8 KiB in addition to its
    /// payload; together they may use the share of one connection, and further ones are refused.
    /// `None`, the default, bounds only their number.
    pub budget: Option<Arc<Budget>>,
    /// The codec for callers that are not Sinew processes. With `None`, the default, their requests
    /// are refused.
    pub peer: Option<Arc<dyn PeerCodec>>,
}

impl Default for SplitServerConfig {
    fn default() -> Self {
        Self {
            max_pending: 8192,
            max_pending_bytes: 512 << 20,
            reach_timeout: Duration::from_secs(20),
            max_item_bytes: 31 << 20,
            budget: None,
            peer: None,
        }
    }
}
