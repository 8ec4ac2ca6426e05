//! Ending many connections within a grace period.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sinew_plane::{Code, Error};

use crate::connection::Connection;

/// Lets the streams on all connections end within `grace`, then closes the connections. Returns
/// how many streams were cut.
pub(crate) async fn end_all(connections: &[Arc<Connection>], grace: Duration) -> usize {
    let drained = async {
        for connection in connections {
            connection.drained().await;
        }
    };
    // Past the grace the rest is cut, which is what the count below reports.
    let _ = tokio::time::timeout(grace, drained).await;
    let left = |connection: &Arc<Connection>| connection.active.load(Ordering::Acquire);
    let cut = connections.iter().map(left).sum();
    let error = Error::new(Code::ConnectionLost, "this side shut down");
    for connection in connections {
        connection.close(&error);
    }
    cut
}
