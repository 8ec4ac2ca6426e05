//! Has streams go on over another connection: those that have lost theirs, and those whose peer has
//! said goaway.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use sinew_mux::Reattached;
use sinew_plane::{
    Backoff, CONNECT_ATTEMPT_DELAY, Error, Jitter, ProcessId, ResumeReason, Retries, clock,
    staggered,
};

use crate::{
    coming_back::ComingBack,
    connection::{Connection, MuxConnection},
    dial::Dialer,
};

/// Longest pause between two tries: a worker that can be reached again gets its streams back within
/// this time, and many callers do not ask it more often.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What came of the look for another connection to a process.
enum Found {
    Connection(Connection),
    /// All its addresses say that it is gone, and how.
    Gone(String),
    /// It does not answer now.
    Nothing,
}

/// Why there is no connection to a process at one of its addresses.
enum NotThere {
    /// Nobody listens, or another process.
    Gone(String),
    Unknown,
}

/// Has the streams of a dialler come back whenever its connection was lost, for as long as there is
/// somebody who holds it.
pub(crate) async fn run(dialer: Weak<Dialer>, back: Arc<ComingBack>) {
    loop {
        back.wake.notified().await;
        let Some(dialer) = dialer.upgrade() else { return };
        resume(&dialer).await;
    }
}

/// Looks for a connection until all streams are back, their time is over, or their process is known
/// to be gone.
async fn resume(dialer: &Arc<Dialer>) {
    let ComingBack { address, detached, .. } = dialer.coming_back();
    let retries = || {
        let base = dialer.config().backoff_base;
        let longest = dialer.config().backoff_max.min(LONGEST_PAUSE).max(base);
        Retries::new(Backoff::exponential(base, longest).with_jitter(Jitter::Half))
    };
    let mut pauses = retries();
    loop {
        leave_all(dialer);
        let late = detached.handle_timeout(clock::now());
        if late > 0 {
            dialer.events().gave_up(address, late, "their resume grace is over");
        }
        dialer.show_detached();
        let waiting = detached.process().zip(detached.poll_timeout());
        let Some((process, until)) = waiting else { return };
        let round = async {
            match find(dialer, process).await {
                Found::Connection(connection) => match detached.reattach(&connection.0) {
                    Ok(done) => {
                        tell(dialer, &connection, &done);
                        if done.left == 0 {
                            return true;
                        }
                    }
                    // It was lost, or its peer said goaway, in this moment.
                    Err(refusal) => tracing::debug!(?refusal, "streams wait for a connection"),
                },
                Found::Gone(why) => {
                    let streams = detached.give_up(process, &why);
                    dialer.events().gave_up(address, streams, &why);
                    return true;
                }
                Found::Nothing => {}
            }
            // tidy-allow: sleep, the pause of the backoff
            tokio::time::sleep(pauses.pause()).await;
            false
        };
        if tokio::time::timeout_at(until.into(), round).await == Ok(true) {
            pauses = retries();
        }
    }
}

/// Moves the streams of each connection whose peer has said goaway, in tasks of their own.
fn leave_all(dialer: &Arc<Dialer>) {
    for connection in dialer.coming_back().take_leaving() {
        let this = Arc::clone(dialer);
        let ending = dialer.connections().ending().clone();
        dialer.connections().spawn(async move {
            ending.run_until_cancelled(leave(&this, &connection)).await;
        });
    }
}

/// Tries once: where no new connection to the process is to be had, it drains for good, and the
/// streams end where they are.
async fn leave(dialer: &Arc<Dialer>, connection: &Arc<MuxConnection>) {
    let Some(process) = connection.peer().map(|hello| hello.process) else { return };
    let limit = dialer.config().connect_timeout + dialer.config().handshake_timeout;
    let found = tokio::time::timeout(limit, find(dialer, process)).await;
    let Ok(Found::Connection(to)) = found else { return };
    move_all(connection, &to, usize::MAX, ResumeReason::Goaway);
}

/// Moves up to `most` streams to another connection, and tells of it. Returns how many.
pub(crate) fn move_all(
    from: &Arc<MuxConnection>,
    to: &Connection,
    most: usize,
    why: ResumeReason,
) -> usize {
    let moved = from.move_calls(&to.0, most, clock::now());
    if moved > 0 {
        from.driver().room.notify_waiters();
        to.tasks().moved(moved, why);
    }
    moved
}

fn tell(dialer: &Dialer, connection: &Connection, done: &Reattached) {
    let gap = done.since.map(clock::since).unwrap_or_default();
    for reason in ResumeReason::ALL {
        let streams = done.streams[reason.place()];
        if streams > 0 {
            dialer.connections().stream_metrics().resumed(reason, streams);
            let address = connection.tasks().address().unwrap_or(dialer.address());
            dialer.events().attached(address, streams, reason, gap);
        }
    }
}

/// A connection to the process that is up, or else a new one, at whichever of its addresses answers
/// first.
async fn find(dialer: &Arc<Dialer>, process: ProcessId) -> Found {
    let others = dialer.others();
    if let Some(connection) = up(dialer, &others, process) {
        return Found::Connection(connection);
    }
    let (mut gone, mut is_unknown) = (Vec::new(), false);
    let mut dialers = std::iter::once(dialer).chain(&others);
    let next = || dialers.next().map(|it| connect(it, process));
    let pause = || tokio::time::sleep(CONNECT_ATTEMPT_DELAY);
    let found = staggered(pause, next, |why| match why {
        NotThere::Gone(why) => gone.push(why),
        NotThere::Unknown => is_unknown = true,
    });
    match found.await {
        Some(connection) => Found::Connection(connection),
        None if is_unknown => Found::Nothing,
        None => Found::Gone(gone.join("; ")),
    }
}

fn up(dialer: &Arc<Dialer>, others: &[Arc<Dialer>], process: ProcessId) -> Option<Connection> {
    let is_it = |it: &Connection| {
        let peer = it.peer().map(|hello| hello.process);
        peer == Some(process) && it.is_usable() && it.0.keeps_calls()
    };
    let own = dialer.usable().filter(is_it);
    let own = own.or_else(|| dialer.connections().all().into_iter().find(is_it));
    own.or_else(|| others.iter().filter_map(|it| it.usable()).find(is_it))
}

async fn connect(dialer: &Arc<Dialer>, process: ProcessId) -> Result<Connection, NotThere> {
    let address = dialer.address();
    match dialer.connection_at_once().await {
        Ok(connection) if connection.peer().is_some_and(|it| it.process == process) => {
            if connection.0.keeps_calls() { Ok(connection) } else { Err(NotThere::Unknown) }
        }
        Ok(_) => Err(NotThere::Gone(format!("another process answers at {address}"))),
        Err(error) if is_nobody_there(&error) => {
            Err(NotThere::Gone(format!("nobody listens at {address}")))
        }
        Err(error) => {
            tracing::debug!(%address, %error, "streams wait for a connection");
            Err(NotThere::Unknown)
        }
    }
}

/// The host says that nobody listens at the address.
fn is_nobody_there(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|it| it.downcast_ref::<io::Error>());
    let kind = cause.map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound))
}
