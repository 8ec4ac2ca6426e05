//! What a mux peer may send: no panic, bounded buffers, the same events for every split.
//!
//! Input: one byte of settings, then the byte stream. Settings: bit 0 the role, bit 1 integrity
//! asked for by this side, bit 2 small limits, bit 3 the stream is put behind a valid preface and
//! hello, bits 4 to 7 the length of the pieces it is fed in.
#![no_main]

use std::time::Instant;

use bytes::{BufMut, BytesMut};
use libfuzzer_sys::fuzz_target;
use sinew_mux::{
    CheckedMuxConfig, ConnectionError, Consumer, Event, Inbound, Items, MuxConfig, Outbound,
    PREFACE, Producer, Role,
};
use sinew_plane::Window;

/// Longest frame, its header and its check.
const MAX_FRAME: usize = 8 + 59 + 1024 + 65_536 + 65_536 + 4;

fn config(settings: u8) -> CheckedMuxConfig {
    let mut config = MuxConfig { integrity: settings & 2 != 0, ..MuxConfig::default() };
    if settings & 4 != 0 {
        config.max_streams = 2;
        config.max_message_bytes = 64;
        config.request_window_bytes = 100;
    }
    config.checked().expect("valid settings")
}

fn stream(settings: u8, data: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    if settings & 8 != 0 {
        stream.extend(PREFACE);
        stream.extend([0, 0, 2, 0x01, 0, 0, 0, 0, 1, 1]);
    }
    stream.extend(data);
    stream
}

/// One stream of ours and one of the peer, so that the frames for streams mean something.
struct Streams {
    outbound: Outbound,
    consumer: Consumer,
    producer: Producer,
    /// Items in chunks are taken; else they are skipped, as those of a stream that was given up.
    wanted: bool,
}

impl Streams {
    fn new(role: Role, config: &CheckedMuxConfig, wanted: bool) -> Self {
        let window = Window { items: 4, bytes: 100 };
        let mut producer = Producer::new(window);
        producer.accept();
        producer.push("item".into()).expect("the window is open");
        let outbound = Outbound::new(role, config);
        Self { outbound, consumer: Consumer::new(window), producer, wanted }
    }

    fn on_event(&mut self, inbound: &mut Inbound, event: Event) -> Result<(), ConnectionError> {
        match event {
            Event::Hello(hello) => self.outbound.on_hello(hello),
            Event::Opened(opened) => {
                assert!(opened.open.endpoint().len() <= 1024);
                self.producer.poll_frame(opened.stream, self.outbound.outbox());
            }
            Event::Attach { attach, .. } => {
                self.producer.on_attach(attach.next_item, attach.credit)?
            }
            Event::Credit { credit, .. } => drop(self.producer.on_credit(credit)?),
            Event::Accept { .. } => self.consumer.on_accept()?,
            Event::Items { items, .. } => self.consumer.on_items(items)?,
            Event::ItemBegin { .. } | Event::Chunk { .. } if !self.wanted => {}
            Event::ItemBegin { stream, total } => {
                self.consumer.on_item_begin(total)?;
                inbound.assemble(stream)?;
            }
            Event::ItemEnd { item, .. } => self.consumer.on_item_end(item)?,
            Event::Chunk { .. } => self.consumer.on_chunk()?,
            Event::Ended { terminal, items, .. } => self.consumer.on_terminal(terminal, items)?,
            Event::Grant { total } => self.outbound.on_grant(total),
            Event::GoAway { .. } => self.outbound.on_go_away(),
            _ => {}
        }
        Ok(())
    }
}

/// Items come in runs as they stood in a piece, which differ with the pieces.
fn one_by_one(event: Event) -> Vec<Event> {
    let Event::Items { stream, items } = event else { return vec![event] };
    items.into_iter().map(|item| Event::Items { stream, items: Items::one(item) }).collect()
}

/// Puts the piece where it belongs, or a part of it; how many bytes.
fn put(inbound: &mut Inbound, buffer: &mut BytesMut, piece: &[u8], direct: bool) -> usize {
    let room = if direct { inbound.room() } else { None };
    let Some(mut room) = room else {
        buffer.extend_from_slice(piece);
        return piece.len();
    };
    let bytes = room.remaining_mut().min(piece.len());
    room.put_slice(&piece[..bytes]);
    inbound.filled(bytes, buffer);
    bytes
}

/// Reads the stream in pieces of `step` bytes, `direct`ly into large messages or not: the events
/// as text, and the error that ended it.
fn read(
    settings: u8,
    stream: &[u8],
    step: usize,
    direct: bool,
) -> (Vec<String>, Option<ConnectionError>) {
    let role = if settings & 1 == 0 { Role::Acceptor } else { Role::Dialler };
    let (config, now) = (config(settings), Instant::now());
    let mut inbound = Inbound::new(role, &config, now);
    let mut streams = Streams::new(role, &config, settings & 64 == 0);
    let (mut buffer, mut events) = (BytesMut::new(), Vec::new());
    let mut rest = stream;
    while !rest.is_empty() {
        let piece = &rest[..step.min(rest.len())];
        let taken = put(&mut inbound, &mut buffer, piece, direct);
        rest = &rest[taken..];
        loop {
            match inbound.ingest(&mut buffer) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return (events, Some(error)),
            }
            loop {
                let event = match inbound.poll_event(now) {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(error) => return (events, Some(error)),
                };
                for event in one_by_one(event) {
                    events.push(format!("{event:?}"));
                    if let Err(error) = streams.on_event(&mut inbound, event) {
                        return (events, Some(error));
                    }
                }
            }
        }
        assert!(buffer.len() < MAX_FRAME, "more than one frame is buffered");
        assert!(streams.consumer.received() <= 4, "items without credit");
    }
    (events, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&settings, data)) = data.split_first() else { return };
    let stream = stream(settings, data);
    let whole = read(settings, &stream, stream.len().max(1), false);
    let step = 1 + usize::from(settings >> 4);
    for direct in [false, true] {
        assert_eq!(read(settings, &stream, step, direct), whole);
    }
});
