//! Requests whose bodies are arriving, and their shared window.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use sinew_plane::{Code, Error, Executed};

use crate::{
    CheckedMuxConfig, ConnectionError, Open, Opened,
    assembly::{Assembly, NotTaken, Purpose, Whole},
    buffer_pool::BufferPool,
    outbox::CHUNK_BYTES,
};

/// Bytes by which the bodies of a connection must come along in `body_timeout`, each by its part
/// of them: what takes turns on a slow line is slower the more there are.
const PROGRESS_BYTES: usize = CHUNK_BYTES;

/// The time that a body has to come along in while the memory budget is spent.
const PRESSED: Duration = Duration::from_secs(5);

/// Takes request bodies in. Their bytes are bounded by the request window, their number by the
/// streams that may run at once.
#[derive(Debug)]
pub(crate) struct RequestBodies {
    bodies: FxHashMap<u32, Body>,
    body_timeout: Duration,
    max_message_bytes: usize,
    max_streams: usize,
    window: u64,
    /// Bytes of all bodies that began, and of those that left for their handlers.
    begun: u64,
    done: u64,
    /// Bytes that the peer may begin, since the connection began.
    granted: u64,
    grant_due: bool,
}

/// A request whose body is on its way.
#[derive(Debug)]
struct Body {
    opened: Box<Opened>,
    assembly: Assembly,
    /// When it was last looked at, and how much was there.
    looked: Instant,
    arrived: usize,
}

/// What a piece of a request did.
pub(crate) enum Chunk {
    /// The request is whole.
    Whole(Box<Opened>),
    /// More is to come.
    Partial,
    /// There is no such body.
    Unknown,
    /// The memory budget has no room for it.
    NoRoom,
}

/// A request that is given up before it was whole.
pub(crate) struct GivenUp {
    pub(crate) stream: u32,
    pub(crate) error: Error,
    /// Chunks of it that may still come.
    pub(crate) chunks: u32,
}

impl RequestBodies {
    pub(crate) fn new(config: &CheckedMuxConfig) -> Self {
        let window = u64::from(config.request_window_bytes);
        Self {
            bodies: FxHashMap::default(),
            body_timeout: config.body_timeout,
            max_message_bytes: config.max_message_bytes,
            max_streams: usize::try_from(config.max_streams).unwrap_or(usize::MAX),
            window,
            begun: 0,
            done: 0,
            granted: window,
            grant_due: false,
        }
    }

    /// Begins a request with what came of its body.
    pub(crate) fn begin(
        &mut self,
        (stream, now): (u32, Instant),
        open: Open,
        body_len: usize,
        first: Bytes,
        pool: &mut BufferPool,
    ) -> Result<Chunk, ConnectionError> {
        if body_len > self.max_message_bytes {
            return Err(ConnectionError::Violation("a request body over the announced limit"));
        }
        if self.begun >= self.granted {
            return Err(ConnectionError::Violation("a request beyond the granted window"));
        }
        self.begun += body_len as u64;
        if first.len() == body_len {
            self.release(body_len);
            let opened = Opened { stream, open, body: first, is_charged: false };
            return Ok(Chunk::Whole(Box::new(opened)));
        }
        if self.bodies.len() >= self.max_streams {
            return Err(ConnectionError::Violation("more streams at once than were announced"));
        }
        let assembly = match Assembly::begin(body_len, &first, Purpose::Body, pool) {
            Ok(assembly) => assembly,
            Err(NotTaken::Violation(violation)) => return Err(violation.into()),
            Err(NotTaken::NoRoom) => {
                self.release(body_len);
                return Ok(Chunk::NoRoom);
            }
        };
        let is_charged = pool.account().is_some();
        let opened = Box::new(Opened { stream, open, body: Bytes::new(), is_charged });
        let body = Body { opened, assembly, looked: now, arrived: first.len() };
        self.bodies.insert(stream, body);
        Ok(Chunk::Partial)
    }

    /// Adds to a body.
    pub(crate) fn chunk(
        &mut self,
        stream: u32,
        chunk: &[u8],
        pool: &mut BufferPool,
    ) -> Result<Chunk, ConnectionError> {
        let Some(body) = self.bodies.get_mut(&stream) else { return Ok(Chunk::Unknown) };
        match body.assembly.push(chunk, pool) {
            Ok(None) => Ok(Chunk::Partial),
            Ok(Some(whole)) => Ok(self.finish(stream, whole).map_or(Chunk::Unknown, Chunk::Whole)),
            Err(NotTaken::NoRoom) => Ok(Chunk::NoRoom),
            Err(NotTaken::Violation(violation)) => Err(violation.into()),
        }
    }

    /// A body that is on its way.
    pub(crate) fn assembly(&mut self, stream: u32) -> Option<&mut Assembly> {
        self.bodies.get_mut(&stream).map(|body| &mut body.assembly)
    }

    /// The request whose body is whole now.
    pub(crate) fn finish(&mut self, stream: u32, whole: Whole) -> Option<Box<Opened>> {
        let mut opened = self.take(stream)?.opened;
        self.release(whole.bytes.len());
        opened.body = whole.charged();
        Some(opened)
    }

    fn take(&mut self, stream: u32) -> Option<Body> {
        let body = self.bodies.remove(&stream);
        // A table that was large once is not kept for the life of the connection.
        if self.bodies.is_empty() && self.bodies.capacity() > 64 {
            self.bodies = FxHashMap::default();
        }
        body
    }

    /// Forgets a request; false when it is not on its way any more.
    pub(crate) fn cancel(&mut self, stream: u32) -> bool {
        let Some(body) = self.take(stream) else { return false };
        self.release(body.assembly.total());
        true
    }

    /// Gives up a request for `error`; how many chunks of it may still come.
    pub(crate) fn give_up(&mut self, stream: u32, error: Error) -> GivenUp {
        let Some(body) = self.take(stream) else { return GivenUp { stream, error, chunks: 0 } };
        self.release(body.assembly.total());
        let chunks = body.assembly.missing().div_ceil(CHUNK_BYTES) + 1;
        GivenUp { stream, error, chunks: u32::try_from(chunks).unwrap_or(u32::MAX) }
    }

    #[inline]
    pub(crate) fn has_bodies(&self) -> bool {
        !self.bodies.is_empty()
    }

    /// When to look at the bodies on their way next: while the memory budget is spent they have less
    /// time, so that is as often as they might need it.
    pub(crate) fn next_overdue(&self, now: Instant) -> Option<Instant> {
        let limit = self.body_timeout.min(PRESSED);
        let first = self.bodies.values().map(|body| body.looked + limit).min()?;
        // One that has had the lesser time and need not have come along by then is looked at again.
        Some(first.max(now + limit / 4))
    }

    /// The requests whose bodies do not come along, which are given up.
    pub(crate) fn overdue(&mut self, now: Instant, pool: &BufferPool) -> Vec<GivenUp> {
        if self.bodies.is_empty() {
            return Vec::new();
        }
        let refusal = pool.account().and_then(|account| account.budget().admit().err());
        let usual = self.body_timeout;
        let limit = if refusal.is_some() { usual.min(PRESSED) } else { usual };
        let part = (PROGRESS_BYTES / self.bodies.len()).max(1);
        let mut overdue = Vec::new();
        for (stream, body) in &mut self.bodies {
            if now.saturating_duration_since(body.looked) < limit {
                continue;
            }
            let arrived = body.assembly.total() - body.assembly.missing();
            if arrived - body.arrived < part {
                overdue.push(*stream);
            }
            (body.looked, body.arrived) = (now, arrived);
        }
        let error = refusal.unwrap_or_else(|| {
            let message = format!(
                "the body of the request came along by less than {part} bytes in {usual:?}: send \
                 it faster, or raise body_timeout at the server"
            );
            Error::new(Code::Violation, message).with_executed(Executed::No)
        });
        overdue.into_iter().map(|stream| self.give_up(stream, error.clone())).collect()
    }

    /// The new total to tell the peer, if one is due.
    pub(crate) fn take_grant(&mut self) -> Option<u64> {
        std::mem::take(&mut self.grant_due).then_some(self.granted)
    }

    /// A whole body leaves for its handler, whose admission bounds it from now on.
    fn release(&mut self, body_len: usize) {
        self.done += body_len as u64;
        let total = self.done + self.window;
        // Told once per half window, so that small requests cost no extra frames.
        if total - self.granted >= self.window.div_ceil(2) {
            self.granted = total;
            self.grant_due = true;
        }
    }
}
