//! Requests whose bodies are on their way, and the window they come in through.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::{
    CheckedMuxConfig, ConnectionError, Open, Opened, StreamViolation, assembly::Assembly,
    pool::Pool,
};

/// Takes request bodies in. Their bytes are bounded by the request window, their number by the
/// streams that may run at once.
#[derive(Debug)]
pub(crate) struct Intake {
    bodies: FxHashMap<u32, (Box<Opened>, Assembly)>,
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

/// What a chunk did.
pub(crate) enum Chunk {
    /// The request is whole.
    Whole(Box<Opened>),
    /// More is to come.
    Partial,
    /// There is no such body.
    Unknown,
}

impl Intake {
    pub(crate) fn new(config: &CheckedMuxConfig) -> Self {
        let window = u64::from(config.request_window_bytes);
        Self {
            bodies: FxHashMap::default(),
            max_message_bytes: config.max_message_bytes,
            max_streams: usize::try_from(config.max_streams).unwrap_or(usize::MAX),
            window,
            begun: 0,
            done: 0,
            granted: window,
            grant_due: false,
        }
    }

    /// Begins a request with what came of its body; the request if that was all.
    pub(crate) fn begin(
        &mut self,
        stream: u32,
        open: Open,
        body_len: usize,
        first: Bytes,
        pool: &mut Pool,
    ) -> Result<Option<Box<Opened>>, ConnectionError> {
        if body_len > self.max_message_bytes {
            return Err(ConnectionError::Violation("a request body over the announced limit"));
        }
        if self.begun >= self.granted {
            return Err(ConnectionError::Violation("a request beyond the granted window"));
        }
        self.begun += body_len as u64;
        if first.len() == body_len {
            self.release(body_len);
            return Ok(Some(Box::new(Opened { stream, open, body: first })));
        }
        if self.bodies.len() >= self.max_streams {
            return Err(ConnectionError::Violation("more streams at once than were announced"));
        }
        let assembly = Assembly::begin(body_len, &first, pool)?;
        let opened = Box::new(Opened { stream, open, body: Bytes::new() });
        self.bodies.insert(stream, (opened, assembly));
        Ok(None)
    }

    /// Adds to a body.
    pub(crate) fn chunk(
        &mut self,
        stream: u32,
        chunk: &[u8],
        pool: &mut Pool,
    ) -> Result<Chunk, StreamViolation> {
        let Some((_, assembly)) = self.bodies.get_mut(&stream) else { return Ok(Chunk::Unknown) };
        let Some(body) = assembly.push(chunk, pool)? else { return Ok(Chunk::Partial) };
        Ok(self.finish(stream, body).map_or(Chunk::Unknown, Chunk::Whole))
    }

    /// A body that is on its way.
    pub(crate) fn assembly(&mut self, stream: u32) -> Option<&mut Assembly> {
        self.bodies.get_mut(&stream).map(|(_, assembly)| assembly)
    }

    /// The request whose body is whole now.
    pub(crate) fn finish(&mut self, stream: u32, body: Bytes) -> Option<Box<Opened>> {
        let (mut opened, _) = self.bodies.remove(&stream)?;
        self.release(body.len());
        opened.body = body;
        Some(opened)
    }

    /// Forgets a request; false when it is not on its way any more.
    pub(crate) fn cancel(&mut self, stream: u32) -> bool {
        let Some((_, assembly)) = self.bodies.remove(&stream) else { return false };
        self.release(assembly.total());
        true
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
