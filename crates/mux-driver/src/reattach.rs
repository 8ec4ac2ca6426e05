//! Attaches streams whose connection was lost to a new one.

use std::{
    io,
    sync::{Arc, Weak},
};

use sinew_plane::{Error, clock};
use tokio::sync::Notify;

use crate::dial::Dialer;

/// Has the streams of a dialler come back whenever its connection was lost, for as long as there is
/// somebody who holds it.
pub(crate) async fn run(dialer: Weak<Dialer>, wake: Arc<Notify>) {
    loop {
        wake.notified().await;
        let Some(dialer) = dialer.upgrade() else { return };
        reattach(&dialer).await;
    }
}

/// Dials until all streams are back, their time is over, or their process is known to be gone.
async fn reattach(dialer: &Arc<Dialer>) {
    let detached = dialer.detached();
    loop {
        detached.handle_timeout(clock::now());
        let Some(until) = detached.poll_timeout() else { return };
        let dialled = tokio::time::timeout_at(until.into(), dialer.connection()).await;
        match dialled {
            Ok(Ok(connection)) if detached.reattach(&connection.0) == Ok(0) => return,
            // It takes no more at once, or none at all.
            Ok(Ok(_)) => {}
            Ok(Err(error)) if is_nobody_there(&error) => return detached.end(),
            Ok(Err(error)) => tracing::debug!(%error, "streams wait for a connection"),
            Err(_) => continue,
        }
        tokio::time::sleep(dialer.pause()).await;
    }
}

/// The host says that nobody listens at the address: the process is gone, and its streams with it.
fn is_nobody_there(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|it| it.downcast_ref::<io::Error>());
    let kind = cause.map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound))
}
