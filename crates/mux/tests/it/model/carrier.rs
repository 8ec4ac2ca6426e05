//! One connection of the model: its two ends, and the bytes between them.

use std::time::Instant;

use bytes::BytesMut;
use sinew_mux::ConnectionError;
use sinew_plane::{Code, Error, ResumeReason};

use crate::manual::End;

/// Bytes that the network holds before a writer has to wait.
const SOCKET_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Server,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Caller, Self::Server];

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Caller => Self::Server,
            Self::Server => Self::Caller,
        }
    }
}

/// The process at the caller's end of a carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The one that opens the streams.
    First,
    /// The one that takes streams of the first over.
    Second,
}

impl By {
    pub(crate) const BOTH: [Self; 2] = [Self::First, Self::Second];
}

/// How an end of a carrier is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing passes any more.
    Cut,
    /// The same, and what the other end writes from then on fails.
    Reset,
    /// This end alone gives the peer up, and what it had still to write goes out.
    GivenUp,
}

pub(crate) struct Carrier {
    ends: [Option<End>; 2],
    /// Bytes on their way to each end.
    wires: [BytesMut; 2],
    resets: bool,
    /// Streams that have left the caller's end since it last read: what it has of an item that is
    /// under way there is let go of when it reads or looks at its timers.
    pub(crate) left: usize,
    /// The process at the caller's end.
    pub(crate) by: By,
}

impl Carrier {
    pub(crate) fn new(by: By, caller: End, server: End) -> Self {
        Self {
            by,
            ends: [Some(caller), Some(server)],
            wires: Default::default(),
            resets: false,
            left: 0,
        }
    }

    /// One end, until it is lost.
    pub(crate) fn end(&self, side: Side) -> Option<&End> {
        self.ends[side as usize].as_ref()
    }

    pub(crate) fn end_mut(&mut self, side: Side) -> Option<&mut End> {
        self.ends[side as usize].as_mut()
    }

    /// Neither end is lost.
    pub(crate) fn is_whole(&self) -> bool {
        self.ends.iter().all(Option::is_some)
    }

    /// Both ends are lost.
    pub(crate) fn is_gone(&self) -> bool {
        self.ends.iter().all(Option::is_none)
    }

    /// Writes up to `most` bytes, as far as the network takes them.
    pub(crate) fn write(&mut self, side: Side, most: usize) {
        let Some(end) = &self.ends[side as usize] else { return };
        let wire = &mut self.wires[side.other() as usize];
        if self.ends[side.other() as usize].is_some() {
            end.write(most.min(SOCKET_BYTES.saturating_sub(wire.len())), wire);
        } else if self.resets {
            end.break_off();
        } else {
            // They never arrive.
            end.write(most, &mut BytesMut::new());
        }
    }

    pub(crate) fn on_the_way(&self, side: Side) -> usize {
        self.wires[side as usize].len()
    }

    /// The next bytes on their way to an end.
    pub(crate) fn take_bytes(&mut self, side: Side, most: usize) -> BytesMut {
        let wire = &mut self.wires[side as usize];
        wire.split_to(most.min(wire.len()))
    }

    /// One end is lost; what it wrote may still arrive.
    pub(crate) fn lose(&mut self, side: Side, loss: Loss, now: Instant) {
        let Some(end) = self.ends[side as usize].take() else { return };
        self.wires[side as usize].clear();
        self.resets = loss == Loss::Reset;
        if loss == Loss::GivenUp {
            end.refuse_peer(&ConnectionError::Silent);
        }
        let error = Error::new(Code::ConnectionLost, "it broke");
        end.connection.lost(&error, ResumeReason::Lost, now);
        if loss == Loss::GivenUp {
            end.write_rest(&mut self.wires[side.other() as usize]);
        }
    }

    /// The second process has lost its end, `side`, and something of it is still on its way.
    pub(crate) fn may_be_late(&self, side: Side) -> bool {
        let is_second = side == Side::Caller && self.by == By::Second;
        is_second && self.on_the_way(Side::Server) > 0
    }

    /// Ends both ends for good.
    pub(crate) fn end_all(&mut self) {
        for end in self.ends.iter_mut().filter_map(Option::take) {
            end.connection.end(&Error::new(Code::ConnectionLost, "it was closed"));
        }
    }
}
