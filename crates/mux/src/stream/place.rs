//! The connection that a stream is on, and the state of the stream under the same lock.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use sinew_plane::ProcessId;

use crate::{
    Connection, Driver,
    sync::{Mutex, MutexGuard},
};

/// The state of one end of a stream, and the connection that the stream is on: the first until it
/// moves to another.
pub(super) struct Placed<D: Driver, S> {
    first: Arc<Connection<D>>,
    /// The stream's number on the first.
    number: u32,
    /// Whether it has moved, for a look without the lock: most streams never do.
    has_moved: AtomicBool,
    inner: Mutex<Inner<D, S>>,
}

struct Inner<D: Driver, S> {
    moved: Option<Box<Moved<D>>>,
    state: S,
}

/// Where a stream is that has moved.
struct Moved<D: Driver> {
    connection: Arc<Connection<D>>,
    number: u32,
    /// The counter of the attach that moved it.
    counter: u32,
    /// Of a stream that another process has opened.
    foreign: Option<Foreign>,
    /// The connection that was up when the stream left it, and its number there: if the attach is
    /// lost, the peer still has it there.
    left: Option<Left<D>>,
}

/// Where a stream was that has left a connection which was up.
pub(super) type Left<D> = (Weak<Connection<D>>, u32);

/// What attaches show of a stream that another process has opened.
#[derive(Clone, Copy)]
pub(super) struct Foreign {
    pub(super) secret: u64,
    /// The process that has opened it.
    pub(super) origin: ProcessId,
}

/// Where a stream is for as long as its state is locked.
pub(super) struct At<'a, D: Driver> {
    pub(super) connection: &'a Arc<Connection<D>>,
    /// The stream's number there.
    pub(super) number: u32,
}

impl<D: Driver> Clone for At<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Driver> Copy for At<'_, D> {}

/// The connection that a stream was on when it was looked at.
pub(super) enum Current<'a, D: Driver> {
    First(&'a Arc<Connection<D>>),
    Moved(Arc<Connection<D>>),
}

impl<D: Driver> Deref for Current<'_, D> {
    type Target = Arc<Connection<D>>;

    #[inline]
    fn deref(&self) -> &Arc<Connection<D>> {
        match self {
            Self::First(connection) => connection,
            Self::Moved(connection) => connection,
        }
    }
}

impl<D: Driver, S> Placed<D, S> {
    pub(super) fn new(first: Arc<Connection<D>>, number: u32, state: S) -> Self {
        let inner = Mutex::new(Inner { moved: None, state });
        Self { first, number, has_moved: AtomicBool::new(false), inner }
    }

    /// A stream that another process has opened. The attach that takes it over is the first of this
    /// process.
    pub(super) fn taken_over(
        (connection, number): (Arc<Connection<D>>, u32),
        foreign: Foreign,
        state: S,
    ) -> Self {
        let first = Arc::clone(&connection);
        let moved = Moved { connection, number, counter: 1, foreign: Some(foreign), left: None };
        let inner = Mutex::new(Inner { moved: Some(Box::new(moved)), state });
        Self { first, number, has_moved: AtomicBool::new(true), inner }
    }

    /// The connection that the stream began on.
    pub(super) fn first(&self) -> &Connection<D> {
        &self.first
    }

    #[inline]
    pub(super) fn lock(&self) -> Locked<'_, D, S> {
        Locked { placed: self, inner: self.inner.lock() }
    }

    /// The connection, for a step that needs no lock.
    #[inline]
    pub(super) fn connection(&self) -> Current<'_, D> {
        if self.has_moved.load(Ordering::Acquire) {
            return self.lock().current().0;
        }
        Current::First(&self.first)
    }

    /// The state, of a stream that is being dropped.
    pub(super) fn get_mut(&mut self) -> (&mut S, &Connection<D>) {
        let Inner { moved, state } = self.inner.get_mut();
        (state, moved.as_ref().map_or(&self.first, |moved| &moved.connection))
    }
}

/// The state of one end of a stream, locked.
pub(super) struct Locked<'a, D: Driver, S> {
    placed: &'a Placed<D, S>,
    inner: MutexGuard<'a, Inner<D, S>>,
}

impl<'a, D: Driver, S> Locked<'a, D, S> {
    /// The state, and where the stream is.
    #[inline]
    pub(super) fn parts(&mut self) -> (&mut S, At<'_, D>) {
        let Inner { moved, state } = &mut *self.inner;
        let at = match moved {
            None => At { connection: &self.placed.first, number: self.placed.number },
            Some(moved) => At { connection: &moved.connection, number: moved.number },
        };
        (state, at)
    }

    /// Where the stream is, beyond the lock.
    #[inline]
    pub(super) fn current(&self) -> (Current<'a, D>, u32) {
        match &self.inner.moved {
            None => (Current::First(&self.placed.first), self.placed.number),
            Some(moved) => (Current::Moved(Arc::clone(&moved.connection)), moved.number),
        }
    }

    /// Whether the stream is on this connection, under that number.
    #[inline]
    pub(super) fn is_on(&self, connection: &Connection<D>, number: u32) -> bool {
        let (on, known) = match &self.inner.moved {
            None => (&self.placed.first, self.placed.number),
            Some(moved) => (&moved.connection, moved.number),
        };
        known == number && std::ptr::eq(Arc::as_ptr(on), connection)
    }

    /// The counter of the last attach; 0 before the first.
    pub(super) fn attaches(&self) -> u32 {
        self.inner.moved.as_ref().map_or(0, |moved| moved.counter)
    }

    /// The next attach is the first of another process: no counter of the one before binds it.
    pub(super) fn forget_attaches(&mut self) {
        if let Some(moved) = &mut self.inner.moved {
            moved.counter = 0;
        }
    }

    /// What attaches show, of a stream that another process has opened.
    pub(super) fn foreign(&self) -> Option<Foreign> {
        self.inner.moved.as_ref()?.foreign
    }

    /// Remembers the connection that a stream has left while it was up.
    pub(super) fn set_left(&mut self, left: Left<D>) {
        if let Some(moved) = &mut self.inner.moved {
            moved.left = Some(left);
        }
    }

    /// The last connection that the stream has left while it was up, once.
    pub(super) fn take_left(&mut self) -> Option<Left<D>> {
        self.inner.moved.as_mut()?.left.take()
    }

    /// The stream is on this connection from now on, by the attach with that counter.
    pub(super) fn move_to(&mut self, connection: &Arc<Connection<D>>, number: u32, counter: u32) {
        let connection = Arc::clone(connection);
        let (foreign, left) = (self.foreign(), self.take_left());
        self.inner.moved = Some(Box::new(Moved { connection, number, counter, foreign, left }));
        self.placed.has_moved.store(true, Ordering::Release);
    }
}

impl<D: Driver, S> Deref for Locked<'_, D, S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        &self.inner.state
    }
}

impl<D: Driver, S> DerefMut for Locked<'_, D, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        &mut self.inner.state
    }
}
