//! What a mux peer may send: no panic, bounded buffers, the same events for every split.
//!
//! Input: one byte of settings, then the byte stream. Settings: bit 0 the role, bit 1 integrity
//! asked for by this side, bit 2 small limits, bit 3 the stream is put behind a valid preface and
//! hello, bits 4 to 7 the length of the pieces it is fed in.
#![no_main]

use std::time::Instant;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sinew_mux::{
    CheckedMuxConfig, ConnectionError, Consumer, Event, Inbound, Items, MuxConfig, Outbound,
    PREFACE, Producer, Role,
};
use sinew_plane::Window;

/// Longest frame, its header and its check.
const MAX_FRAME: usize = 8 + 51 + 1024 + 65_536 + 65_536 + 4;

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
}

impl Streams {
    fn new(role: Role, config: &CheckedMuxConfig) -> Self {
        let window = Window { items: 4, bytes: 100 };
        let mut producer = Producer::new(window);
        producer.accept();
        producer.push("item".into()).expect("the window is open");
        Self { outbound: Outbound::new(role, config), consumer: Consumer::new(window), producer }
    }

    fn on_event(&mut self, event: Event) -> Result<(), ConnectionError> {
        match event {
            Event::Hello(hello) => self.outbound.on_hello(hello),
            Event::Opened(opened) => {
                assert!(opened.open.endpoint().len() <= 1024);
                self.producer.poll_frame(opened.stream, self.outbound.outbox());
            }
            Event::Attach { next_item, credit, .. } => {
                self.producer.on_attach(next_item, credit)?
            }
            Event::Credit { credit, .. } => drop(self.producer.on_credit(credit)?),
            Event::Accept { .. } => self.consumer.on_accept()?,
            Event::Items { items, .. } => self.consumer.on_items(items)?,
            Event::ItemBegin { total, chunk, .. } => self.consumer.on_item_begin(total, &chunk)?,
            Event::Chunk { chunk, .. } => self.consumer.on_chunk(&chunk)?,
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

/// Reads the stream in pieces of `step` bytes: the events as text, and the error that ended it.
fn read(settings: u8, stream: &[u8], step: usize) -> (Vec<String>, Option<ConnectionError>) {
    let role = if settings & 1 == 0 { Role::Acceptor } else { Role::Dialler };
    let (config, now) = (config(settings), Instant::now());
    let mut inbound = Inbound::new(role, &config, now);
    let mut streams = Streams::new(role, &config);
    let (mut buffer, mut events) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
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
                    if let Err(error) = streams.on_event(event) {
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
    let whole = read(settings, &stream, stream.len().max(1));
    assert_eq!(read(settings, &stream, 1 + usize::from(settings >> 4)), whole);
});
