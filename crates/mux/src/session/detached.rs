//! The streams that this side consumes and whose connection was lost, until they attach to another
//! one.

use std::{sync::Arc, time::Instant};

use sinew_plane::{Error, ProcessId, ResumeReason};

use crate::{Connection, Driver, Refusal, stream::CallerStream, sync::Mutex};

/// The streams of this side that have lost their connections, for one dialler.
///
/// The code that finds another connection to the process of a stream attaches all streams of that
/// process with [`reattach`](Self::reattach), or ends them with [`give_up`](Self::give_up).
pub struct Detached<D: Driver>(Mutex<State<D>>);

struct State<D: Driver> {
    streams: Vec<Lost<D>>,
    /// Nobody has them come back any more.
    is_closed: bool,
}

/// A stream that has lost its connection.
pub(crate) struct Lost<D: Driver> {
    pub(crate) stream: Arc<CallerStream<D>>,
    pub(crate) error: Error,
    /// The process that serves it.
    pub(crate) process: ProcessId,
    pub(crate) since: Instant,
    /// Until when it is tried.
    pub(crate) until: Instant,
    pub(crate) reason: ResumeReason,
}

/// What came of an attempt to attach streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reattached {
    /// Streams that were attached, by the [places](ResumeReason::place) of why they had lost their
    /// connections.
    pub streams: [usize; 4],
    /// When the first of them had lost its connection.
    pub since: Option<Instant>,
    /// Streams of that process that wait on: the connection takes no more at once.
    pub left: usize,
}

impl<D: Driver> Default for Detached<D> {
    fn default() -> Self {
        Self(Mutex::new(State { streams: Vec::new(), is_closed: false }))
    }
}

impl<D: Driver> Detached<D> {
    /// Takes streams in that have lost their connection.
    pub(crate) fn keep(&self, mut lost: Vec<Lost<D>>) {
        {
            let mut state = self.0.lock();
            if !state.is_closed {
                state.streams.append(&mut lost);
            }
        }
        end(lost, None);
    }

    /// How many streams wait.
    pub fn len(&self) -> usize {
        self.0.lock().streams.len()
    }

    /// True if no stream waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The process of the stream that waits first; `None` if none does.
    pub fn process(&self) -> Option<ProcessId> {
        self.0.lock().streams.first().map(|lost| lost.process)
    }

    /// When the first of the waiting streams has to be attached again; `None` while none waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.0.lock().streams.iter().map(|lost| lost.until).min()
    }

    /// Ends the streams that were not attached in time. Returns how many.
    pub fn handle_timeout(&self, now: Instant) -> usize {
        let late: Vec<_> = self.0.lock().streams.extract_if(.., |lost| lost.until <= now).collect();
        let count = late.len();
        end(late, Some("it was not attached within its resume grace"));
        count
    }

    /// Attaches the waiting streams of the process at the other end of this connection, up to the
    /// number that it takes, with one write. Streams of other processes wait on.
    ///
    /// # Errors
    /// [`Refusal::Retired`]: the connection takes no streams. All wait for another one.
    pub fn reattach(&self, connection: &Arc<Connection<D>>) -> Result<Reattached, Refusal> {
        let process = connection.peer().map(|hello| hello.process);
        let streams: Vec<_> = {
            let waiting = &mut self.0.lock().streams;
            waiting.extract_if(.., |lost| Some(lost.process) == process).collect()
        };
        let (mut done, mut left, mut refusal) = (Reattached::default(), Vec::new(), None);
        for lost in streams {
            if let Err(why) = connection.reattach(&lost.stream, lost.since) {
                refusal = Some(why);
                left.push(lost);
                continue;
            }
            done.streams[lost.reason.place()] += 1;
            done.since = Some(done.since.map_or(lost.since, |since| since.min(lost.since)));
        }
        D::transmit(connection);
        done.left = left.len();
        self.keep(left);
        match refusal {
            Some(Refusal::Retired) if done.since.is_none() => Err(Refusal::Retired),
            _ => Ok(done),
        }
    }

    /// Ends the waiting streams of a process, because `why` says that none of its connections will
    /// take them. Returns how many.
    pub fn give_up(&self, process: ProcessId, why: &str) -> usize {
        let lost: Vec<_> = {
            let waiting = &mut self.0.lock().streams;
            waiting.extract_if(.., |lost| lost.process == process).collect()
        };
        let count = lost.len();
        end(lost, Some(why));
        count
    }

    /// Ends the waiting streams, each with the error of the loss of its connection.
    pub fn end(&self) {
        let all = std::mem::take(&mut self.0.lock().streams);
        end(all, None);
    }

    /// Ends the waiting streams, and each that is added later.
    pub fn close(&self) {
        let all = {
            let mut state = self.0.lock();
            state.is_closed = true;
            std::mem::take(&mut state.streams)
        };
        end(all, None);
    }
}

/// Ends streams with the error of the loss of their connection, and why they were not attached.
fn end<D: Driver>(streams: Vec<Lost<D>>, why: Option<&str>) {
    for Lost { stream, error, .. } in streams {
        let error = match why {
            Some(why) => behind(&error, why),
            None => error,
        };
        if let Some(waker) = stream.on_connection_lost(&error) {
            waker.wake();
        }
    }
}

/// The error of a loss, with the reason why the stream was not attached elsewhere.
pub(crate) fn behind(loss: &Error, why: &str) -> Error {
    let message = format!("{}; {why}", loss.message());
    Error::new(loss.code(), message).with_executed(loss.executed())
}

impl<D: Driver> std::fmt::Debug for Detached<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detached").field("streams", &self.len()).finish()
    }
}
