//! One connection of the model: two real directions each way, and the bytes between them.

use std::collections::HashSet;

use bytes::BytesMut;
use sinew_mux::{CheckedMuxConfig, Event, Outbound, Role};

use crate::reading::Reader;

/// Bytes that the network holds before a writer has to wait.
const SOCKET_BYTES: usize = 64 << 10;

/// An outbox is full at 256 KiB, and then may hold one chunk more; the rest is control, terminals
/// and opens with their bodies of the few streams here.
const MAX_BATCH: usize = (256 << 10) + (64 << 10) + (64 << 10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Server,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Caller => Self::Server,
            Self::Server => Self::Caller,
        }
    }
}

pub(crate) struct End {
    pub(crate) outbound: Outbound,
    reader: Reader,
    /// Written and not yet delivered.
    wire: BytesMut,
    queued: HashSet<u32>,
}

impl End {
    fn new(role: Role, config: &CheckedMuxConfig) -> Self {
        Self {
            outbound: Outbound::new(role, config),
            reader: Reader::of(role, config),
            wire: BytesMut::new(),
            queued: HashSet::new(),
        }
    }

    /// Puts a stream in line, once.
    pub(crate) fn queue(&mut self, stream: u32) {
        if self.queued.insert(stream) {
            self.outbound.queue(stream);
        }
    }

    pub(crate) fn next_turn(&mut self) -> Option<u32> {
        let stream = self.outbound.next_turn()?;
        self.queued.remove(&stream);
        Some(stream)
    }

    /// Writes what waits, unless the network is full.
    pub(crate) fn write(&mut self) {
        if self.wire.len() > SOCKET_BYTES {
            return;
        }
        let mut batch = self.outbound.take_batch();
        let bytes = batch.remaining();
        assert!(bytes <= MAX_BATCH, "the outbox holds {bytes} bytes");
        for part in batch.parts() {
            self.wire.extend_from_slice(part);
        }
        batch.advance(bytes);
        self.outbound.recycle(&mut batch);
    }
}

pub(crate) struct Carrier {
    caller: End,
    server: End,
    pub(crate) alive: bool,
}

impl Carrier {
    pub(crate) fn new(caller: Role, config: &CheckedMuxConfig) -> Self {
        let server = End::new(caller.peer(), config);
        Self { caller: End::new(caller, config), server, alive: true }
    }

    pub(crate) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Caller => &mut self.caller,
            Side::Server => &mut self.server,
        }
    }

    /// Bytes on their way to `side`.
    pub(crate) fn on_the_way(&mut self, side: Side) -> usize {
        self.end(side.other()).wire.len()
    }

    /// Delivers up to `most` bytes to `side`: what it makes of them.
    pub(crate) fn deliver(&mut self, side: Side, most: usize) -> Vec<Event> {
        let wire = &mut self.end(side.other()).wire;
        let bytes = wire.split_to(most.min(wire.len()));
        let end = self.end(side);
        end.reader.events(&bytes).unwrap()
    }
}
