//! What an `Inbound` makes of bytes.

use std::time::Instant;

use bytes::BytesMut;
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
    buffer: BytesMut,
}

impl Reader {
    pub(crate) fn new(role: Role, config: MuxConfig) -> Self {
        Self::of(role, &config.checked().unwrap())
    }

    pub(crate) fn of(role: Role, config: &CheckedMuxConfig) -> Self {
        let now = Instant::now();
        Self { role, inbound: Inbound::new(role, config, now), now, buffer: BytesMut::new() }
    }

    /// Takes bytes in and gives every event to `on_event`.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut on_event: impl FnMut(Event) -> Result<(), ConnectionError>,
    ) -> Result<(), ConnectionError> {
        self.buffer.extend_from_slice(bytes);
        while self.inbound.ingest(&mut self.buffer)? {
            while let Some(event) = self.inbound.poll_event(self.now)? {
                on_event(event)?;
            }
        }
        assert!(self.buffer.len() < MAX_FRAME, "more than one frame is buffered");
        Ok(())
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

/// The events of `bytes` read in pieces of `step`, as text, and the error that ended it.
pub(crate) fn read(
    role: Role,
    config: &MuxConfig,
    bytes: &[u8],
    step: usize,
) -> (Vec<String>, Option<ConnectionError>) {
    let mut reader = Reader::new(role, config.clone());
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
