//! What the serving side is given.

use std::{sync::Arc, time::Duration};

use sinew_plane::Budget;

use crate::PeerCodec;

/// What a [`SplitServer`](crate::SplitServer) takes at most, and from whom.
#[derive(Debug, Clone)]
pub struct SplitServerConfig {
    /// Requests that were accepted and whose caller has not been dialled yet. Each is a task that
    /// waits for a connection; more would only wait longer. One caller gets half of the places at
    /// most, and the callers of one host three quarters. Default 8,192.
    pub max_pending: usize,
    /// Bytes of payload of those requests together, shared in the same way. Default 512 MiB.
    pub max_pending_bytes: usize,
    /// Longest time from the acceptance of a request until the server has reached its caller. Until
    /// then the request has its place here and its place among the requests in flight of its
    /// endpoint, because a request that was accepted is not refused. A caller that cannot be dialled
    /// occupies them for no longer. Default 20 s, which is more than the limits of the call-home
    /// plane allow.
    pub reach_timeout: Duration,
    /// Largest item that is wrapped, in bytes. Default 31 MiB: with the wrapping it stays under the
    /// 32 MiB that receivers take.
    pub max_item_bytes: usize,
    /// The memory budget of the process. Each of those requests is charged 8 KiB beside its
    /// payload, and all of them have the share of one connection; more are refused. `None` by
    /// default: then only their number is bounded.
    pub budget: Option<Arc<Budget>>,
    /// Speaks with callers that are not Sinew's. `None` by default: then their requests are refused.
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
