//! Reports removed workers to the response plane, so that no caller waits for one of them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use sinew_discovery::{Change, Instance, View};
use sinew_plane::ResponsePlaneServer;
use sinew_plane_call_home::TcpStreamServer;
use tokio::time::{Instant, timeout_at};

/// How long a worker that was removed from discovery may still begin to answer a request that it
/// has accepted. A worker that shuts down in order, or whose record was lost, dials back within
/// milliseconds. Only requests to a dead worker wait this long.
const DIAL_BACK_GRACE: Duration = Duration::from_secs(2);

/// Reports to the server each instance that was added at once, and each that was removed after the
/// grace period.
pub(crate) async fn follow(mut view: View, server: Arc<TcpStreamServer>) {
    // In the order of the times; at most as many as went within the last of them.
    let mut gone: VecDeque<(Instant, Arc<Instance>)> = VecDeque::new();
    loop {
        let changed = match gone.front() {
            Some((due, _)) => timeout_at(*due, view.changed()).await,
            None => Ok(view.changed().await),
        };
        let changes = match changed {
            Ok(Some(changes)) => changes,
            Ok(None) => return,
            Err(_) => Vec::new(),
        };
        for change in changes {
            match change {
                Change::Removed(one) => gone.push_back((Instant::now() + DIAL_BACK_GRACE, one)),
                Change::Added(one) | Change::Changed { new: one, .. } => {
                    gone.retain(|(_, gone)| gone.key() != one.key());
                    server.instance_added(&one.endpoint, one.id);
                }
            }
        }
        let now = Instant::now();
        while gone.front().is_some_and(|(due, _)| *due <= now)
            && let Some((_, one)) = gone.pop_front()
        {
            server.instance_removed(&one.endpoint, one.id);
        }
    }
}
