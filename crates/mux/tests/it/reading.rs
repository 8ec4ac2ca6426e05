//! What an `Inbound` makes of bytes.

use std::time::Instant;

use bytes::{BufMut, BytesMut};
use sinew_mux::{CheckedMuxConfig, ConnectionError, Event, Inbound, Items, MuxConfig, Role};

use crate::frames::MAX_PAYLOAD;

/// Header, payload and check of the longest frame.
const MAX_FRAME: usize = 8 + MAX_PAYLOAD + 4;

pub(crate) fn config() -> MuxConfig {
    MuxConfig::default()
}

/// Limits that a test reaches with few bytes.
pub(crate) fn small() -> MuxConfig {
    MuxConfig {
        max_streams: 2,
        max_message_bytes: 64,
        request_window_bytes: 100,
        ..MuxConfig::default()
    }
}

/// An `Inbound` and the buffer in front of it. The clock stands still.
pub(crate) struct Reader {
    pub(crate) role: Role,
    pub(crate) inbound: Inbound,
    pub(crate) now: Instant,
    /// Chunks go into their messages without a stop in the buffer, as a driver reads them.
    pub(crate) direct: bool,
    /// Whether items that begin are.
    pub(crate) wanted: bool,
    buffer: BytesMut,
}

impl Reader {
    pub(crate) fn new(role: Role, config: MuxConfig) -> Self {
        Self::of(role, &config.checked().unwrap())
    }

    pub(crate) fn of(role: Role, config: &CheckedMuxConfig) -> Self {
        let now = Instant::now();
        let inbound = Inbound::new(role, config, now);
        Self { role, inbound, now, direct: true, wanted: true, buffer: BytesMut::new() }
    }

    /// Takes bytes in and gives every event to `on_event`.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut on_event: impl FnMut(Event) -> Result<(), ConnectionError>,
    ) -> Result<(), ConnectionError> {
        while !bytes.is_empty() {
            bytes = &bytes[self.put(bytes)..];
            while self.inbound.ingest(&mut self.buffer)? {
                while let Some(event) = self.inbound.poll_event(self.now)? {
                    let begins = match &event {
                        Event::ItemBegin { stream, .. } if self.wanted => Some(*stream),
                        _ => None,
                    };
                    on_event(event)?;
                    if let Some(stream) = begins {
                        self.inbound.assemble(stream)?;
                    }
                }
            }
            assert!(self.buffer.len() < MAX_FRAME, "more than one frame is buffered");
        }
        Ok(())
    }

    /// Puts bytes where they belong, and tells how many.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let room = if self.direct { self.inbound.room() } else { None };
        let Some(mut room) = room else {
            self.buffer.extend_from_slice(bytes);
            return bytes.len();
        };
        let taken = room.remaining_mut().min(bytes.len());
        room.put_slice(&bytes[..taken]);
        self.inbound.filled(taken, &mut self.buffer);
        taken
    }

    pub(crate) fn events(&mut self, bytes: &[u8]) -> Result<Vec<Event>, ConnectionError> {
        let mut events = Vec::new();
        self.feed(bytes, |event| {
            events.push(event);
            Ok(())
        })?;
        Ok(events)
    }
}

/// Items come in runs as they stood in a piece, which differ with the pieces.
fn one_by_one(event: Event) -> Vec<Event> {
    let Event::Items { stream, items } = event else { return vec![event] };
    items.into_iter().map(|item| Event::Items { stream, items: Items::one(item) }).collect()
}

/// What comes of reading: the events as text, and the error that ended it.
pub(crate) type Outcome = (Vec<String>, Option<ConnectionError>);

/// Reads `bytes` in pieces of `step`, wherever they are put.
pub(crate) fn read(role: Role, config: &MuxConfig, bytes: &[u8], step: usize) -> Outcome {
    let outcome = read_with(role, config, bytes, step, true);
    assert_eq!(read_with(role, config, bytes, step, false), outcome);
    outcome
}

fn read_with(role: Role, config: &MuxConfig, bytes: &[u8], step: usize, direct: bool) -> Outcome {
    let mut reader = Reader::new(role, config.clone());
    reader.direct = direct;
    let mut events = Vec::new();
    for piece in bytes.chunks(step) {
        let fed = reader.feed(piece, |event| {
            events.extend(one_by_one(event).iter().map(|event| format!("{event:?}")));
            Ok(())
        });
        if let Err(error) = fed {
            return (events, Some(error));
        }
    }
    (events, None)
}
