//! What is left to do when what arrived was understood.

use std::{sync::Arc, task::Waker};

use sinew_plane::{CancelReason, Context, StopKind};

use super::Driver;
use crate::{Opened, stream::ProducerStream};

/// A request that a peer sent and this side has admitted, for its handler.
pub struct ReceivedRequest<D: Driver> {
    /// Where the response goes.
    pub response: Arc<ProducerStream<D>>,
    /// The request. A short body holds no read buffer.
    pub opened: Box<Opened>,
}

/// What the driver does when no lock is held, because it runs code of others: in the order of these
/// fields. [`perform`](Self::perform) does what needs no driver.
pub struct Effects<D: Driver> {
    /// The peer has said hello.
    pub established: bool,
    /// Requests for their handlers, in the order in which they came.
    pub requests: Vec<ReceivedRequest<D>>,
    /// Some of those count as admitted, and [`Connection::accept_admitted`] is to be called while
    /// their callers do not know.
    ///
    /// [`Connection::accept_admitted`]: super::Connection::accept_admitted
    pub watch: bool,
    /// [`Receiver::poll_timeout`](super::Receiver::poll_timeout) is earlier now than it was.
    pub timeout_is_earlier: bool,
    /// Nothing has come for a while: buffers that nothing is in can go.
    pub is_quiet: bool,
    /// No stream has run for the idle timeout: the connection can be closed, if none has come since.
    pub is_idle: bool,
    /// Room for another stream was made: who waits to open one may try again.
    pub room_made: bool,
    /// Who is to be woken.
    pub(super) wakers: Vec<Waker>,
    /// What is to be cancelled.
    pub(super) cancels: Vec<(Arc<ProducerStream<D>>, StopKind, CancelReason)>,
}

impl<D: Driver> Default for Effects<D> {
    fn default() -> Self {
        Self {
            established: false,
            requests: Vec::new(),
            watch: false,
            timeout_is_earlier: false,
            is_quiet: false,
            is_idle: false,
            room_made: false,
            wakers: Vec::new(),
            cancels: Vec::new(),
        }
    }
}

impl<D: Driver> Effects<D> {
    /// Wakes the tasks that wait and cancels the streams that are to be cancelled. The driver calls
    /// it after it has handed over the requests.
    pub fn perform(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
        for (response, kind, reason) in self.cancels.drain(..) {
            response.cancel(kind, reason);
        }
    }

    /// Lets go of lists that nothing is in.
    pub fn shrink(&mut self) {
        if self.wakers.is_empty() && self.cancels.is_empty() && self.requests.is_empty() {
            (self.wakers, self.cancels, self.requests) = Default::default();
        }
    }
}

impl<D: Driver> ReceivedRequest<D> {
    /// What the handler hears of a cancel, and asks for its deadline and headers.
    pub fn context(&self) -> &Context {
        self.response.context()
    }
}

/// Wakes who was to be woken, also when the reader panics: a stream that has its end is in no table
/// any more.
impl<D: Driver> Drop for Effects<D> {
    fn drop(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

impl<D: Driver> std::fmt::Debug for Effects<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Effects")
            .field("established", &self.established)
            .field("requests", &self.requests.len())
            .field("room_made", &self.room_made)
            .finish_non_exhaustive()
    }
}
