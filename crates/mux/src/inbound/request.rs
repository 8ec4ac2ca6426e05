//! Streams that the peer opens, and the bodies of their requests.

use std::time::Instant;

use bytes::Bytes;
use sinew_plane::{Error, Window};

use super::Inbound;
use crate::{
    ConnectionError, Event, Open,
    message::Attach,
    outbox::CHUNK_BYTES,
    request_bodies::{Chunk, GivenUp},
};

impl Inbound {
    /// True while request bodies are on their way.
    #[inline]
    pub(crate) fn has_bodies(&self) -> bool {
        self.request_bodies.has_bodies()
    }

    /// The latest time to check for [`overdue`](Self::overdue) request bodies; `None` while none is
    /// arriving. An earlier check does no harm.
    pub fn next_overdue(&self, now: Instant) -> Option<Instant> {
        self.request_bodies.next_overdue(now)
    }

    /// Abandons the requests whose bodies arrive too slowly, and returns each with the error for
    /// [`Outbound::reject`](crate::Outbound::reject). Call it at
    /// [`next_overdue`](Self::next_overdue).
    pub fn overdue(&mut self, now: Instant) -> Vec<(u32, Error)> {
        let overdue = self.request_bodies.overdue(now, &self.pool);
        overdue.into_iter().map(|given_up| self.forgive(given_up)).collect()
    }

    /// What of a request that was given up still comes is not held against the peer.
    fn forgive(&mut self, given_up: GivenUp) -> (u32, Error) {
        self.ineffective_frames.refund(given_up.chunks);
        (given_up.stream, given_up.error)
    }

    /// The memory budget has no room for more of the message of this stream.
    pub(super) fn refuse(&mut self, stream: u32) -> Event {
        if self.role.opens(stream) {
            self.items.remove(&stream);
            return Event::ItemRefused { stream };
        }
        let account = self.pool.account();
        // Without an account nothing is ever refused.
        let error = account.map(|account| account.budget().refusal());
        let error = error.unwrap_or_else(|| Error::new(sinew_plane::Code::Overloaded, "no memory"));
        let given_up = self.request_bodies.give_up(stream, error);
        let (stream, error) = self.forgive(given_up);
        Event::OpenRefused { stream, error }
    }

    fn begin_stream(&mut self, stream: u32) -> Result<(), ConnectionError> {
        if stream != self.next_stream {
            return Err(ConnectionError::Violation("streams must be numbered without a gap"));
        }
        self.next_stream = self
            .next_stream
            .checked_add(2)
            .ok_or(ConnectionError::Violation("the stream numbers are used up"))?;
        Ok(())
    }

    pub(super) fn read_open(
        &mut self,
        stream: u32,
        payload: &Bytes,
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let (open, body_len, first) = Open::decode(payload)?;
        self.begin_stream(stream)?;
        self.ineffective_frames.refund(crossing(open.window));
        let begun =
            self.request_bodies.begin((stream, now), open, body_len, first, &mut self.pool)?;
        if let Chunk::NoRoom = begun {
            self.ineffective_frames
                .refund(u32::try_from(body_len.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX));
        }
        Ok(self.body_event(stream, begun))
    }

    fn body_event(&mut self, stream: u32, chunk: Chunk) -> Option<Event> {
        match chunk {
            Chunk::Whole(opened) => Some(Event::Opened(opened)),
            Chunk::NoRoom => Some(self.refuse(stream)),
            Chunk::Partial | Chunk::Unknown => None,
        }
    }

    pub(super) fn read_body(
        &mut self,
        stream: u32,
        chunk: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        if stream >= self.next_stream {
            return Err(ConnectionError::Violation("a chunk of a stream that was not opened"));
        }
        let chunk = self.request_bodies.chunk(stream, chunk, &mut self.pool)?;
        // Chunks that were in line when their stream was cancelled still arrive.
        if let Chunk::Unknown = chunk {
            self.on_ineffective_frame(now)?;
        }
        Ok(self.body_event(stream, chunk))
    }

    pub(super) fn read_attach(
        &mut self,
        stream: u32,
        payload: &[u8],
    ) -> Result<Event, ConnectionError> {
        let attach = Attach::decode(payload)
            .ok_or(ConnectionError::Violation("an attach that cannot be read"))?;
        self.begin_stream(stream)?;
        Ok(Event::Attach { stream, attach })
    }
}

/// What a stream may add to the frames without effect: its consumer tells credit at the latest
/// every 256 items or 64 KiB, and all of a window's credit may cross the end, and two cancels.
fn crossing(window: Window) -> u32 {
    (window.items / 256).saturating_add(window.bytes / (64 << 10)).saturating_add(4)
}
