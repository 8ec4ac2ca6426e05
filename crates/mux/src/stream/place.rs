//! Where a stream is.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{Connection, Driver, sync::Mutex};

/// Where a stream is: its number on the connection that it began on, until it moves to another.
///
/// Most streams never move, so the first connection is read without a lock.
pub(super) struct Place<D: Driver> {
    first: Arc<Connection<D>>,
    stream: u32,
    has_moved: AtomicBool,
    now: Mutex<Option<(Arc<Connection<D>>, u32)>>,
}

/// The connection that a stream is on.
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

impl<D: Driver> Place<D> {
    pub(super) fn new(connection: Arc<Connection<D>>, stream: u32) -> Self {
        Self { first: connection, stream, has_moved: AtomicBool::new(false), now: Mutex::new(None) }
    }

    /// The connection, and the stream's number there.
    #[inline]
    pub(super) fn current(&self) -> (Current<'_, D>, u32) {
        if self.has_moved.load(Ordering::Acquire) {
            let (connection, stream) = self.moved();
            return (Current::Moved(connection), stream);
        }
        (Current::First(&self.first), self.stream)
    }

    #[cold]
    fn moved(&self) -> (Arc<Connection<D>>, u32) {
        match &*self.now.lock() {
            Some((connection, stream)) => (Arc::clone(connection), *stream),
            None => (Arc::clone(&self.first), self.stream),
        }
    }

    /// The same for a step on the way of every item, which is called in one place, so that it is
    /// compiled into its caller.
    #[inline]
    pub(super) fn with<R>(&self, step: impl FnOnce(&Arc<Connection<D>>, u32) -> R) -> R {
        let moved;
        let (connection, stream) = if self.has_moved.load(Ordering::Acquire) {
            moved = self.moved();
            (&moved.0, moved.1)
        } else {
            (&self.first, self.stream)
        };
        step(connection, stream)
    }

    /// Whether it is there, under that number.
    #[inline]
    pub(super) fn is_on(&self, connection: &Connection<D>, stream: u32) -> bool {
        let (current, number) = self.current();
        number == stream && std::ptr::eq(Arc::as_ptr(&current), connection)
    }

    /// It is on this connection from now on.
    pub(super) fn move_to(&self, connection: &Arc<Connection<D>>, stream: u32) {
        *self.now.lock() = Some((Arc::clone(connection), stream));
        self.has_moved.store(true, Ordering::Release);
    }
}
