//! The streams that this side consumes and whose connection was lost, until they attach to another
//! one.

use std::{sync::Arc, time::Instant};

use sinew_plane::{Error, ProcessId};

use crate::{Connection, Driver, Refusal, stream::CallerStream, sync::Mutex};

/// The streams of this side that have lost their connection to one process.
///
/// The code that dials that process again attaches these streams to the new connection with
/// [`reattach`](Self::reattach), or ends them.
pub struct Detached<D: Driver>(Mutex<State<D>>);

struct State<D: Driver> {
    streams: Vec<Lost<D>>,
    /// Nobody has them come back any more.
    is_closed: bool,
}

/// A stream that has lost its connection.
struct Lost<D: Driver> {
    stream: Arc<CallerStream<D>>,
    error: Error,
    /// The process that serves it.
    process: ProcessId,
    /// Until when it is tried.
    until: Instant,
}

impl<D: Driver> Default for Detached<D> {
    fn default() -> Self {
        Self(Mutex::new(State { streams: Vec::new(), is_closed: false }))
    }
}

impl<D: Driver> Detached<D> {
    /// Takes streams in that a connection to this process has lost, each with the end of its grace.
    pub(crate) fn keep(
        &self,
        process: ProcessId,
        streams: Vec<(Arc<CallerStream<D>>, Instant)>,
        error: &Error,
    ) {
        let lost = |(stream, until)| Lost { stream, error: error.clone(), process, until };
        let mut lost: Vec<_> = streams.into_iter().map(lost).collect();
        {
            let mut state = self.0.lock();
            if !state.is_closed {
                state.streams.append(&mut lost);
            }
        }
        end(lost);
    }

    /// When the first of the waiting streams has to be attached again; `None` while none waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.0.lock().streams.iter().map(|lost| lost.until).min()
    }

    /// Ends the streams that were not attached in time.
    pub fn handle_timeout(&self, now: Instant) {
        let late = self.0.lock().streams.extract_if(.., |lost| lost.until <= now).collect();
        end(late);
    }

    /// Attaches the waiting streams to this connection, up to the number that the peer takes.
    /// Streams of another process end, because that process is gone. Returns how many still wait.
    ///
    /// # Errors
    /// [`Refusal::Retired`]: the connection takes no streams. They wait for another connection.
    pub fn reattach(&self, connection: &Arc<Connection<D>>) -> Result<usize, Refusal> {
        let process = connection.peer().map(|hello| hello.process);
        let mut streams = std::mem::take(&mut self.0.lock().streams);
        end(streams.extract_if(.., |lost| Some(lost.process) != process).collect());
        let mut left = Vec::new();
        let mut refusal = None;
        for lost in streams {
            if let Err(why) = connection.reattach(&lost.stream) {
                refusal = Some(why);
                left.push(lost);
            }
        }
        D::transmit(connection);
        let count = left.len();
        {
            let mut state = self.0.lock();
            if !state.is_closed {
                state.streams.append(&mut left);
            }
        }
        end(left);
        match refusal {
            Some(Refusal::Retired) => Err(Refusal::Retired),
            _ => Ok(count),
        }
    }

    /// Ends the waiting streams, and each that is added later.
    pub fn close(&self) {
        self.0.lock().is_closed = true;
        self.end();
    }

    /// Ends the waiting streams, each with the error of the loss of its connection.
    pub fn end(&self) {
        let all = std::mem::take(&mut self.0.lock().streams);
        end(all);
    }
}

fn end<D: Driver>(streams: Vec<Lost<D>>) {
    for Lost { stream, error, .. } in streams {
        if let Some(waker) = stream.on_connection_lost(&error) {
            waker.wake();
        }
    }
}

impl<D: Driver> std::fmt::Debug for Detached<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detached").field("streams", &self.0.lock().streams.len()).finish()
    }
}
