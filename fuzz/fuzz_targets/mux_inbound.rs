//! What a mux peer may send to a whole connection end: no panic, bounded buffers, the same
//! observable events for every split.
//!
//! Input: one byte of settings, then the byte stream. Settings: bit 0 the role, bit 1 integrity
//! asked for by this side, bit 2 small limits, bit 3 the stream is put behind a valid preface and
//! hello, bits 4 to 7 the length of the pieces it is fed in; bit 6 also whether the stream of this
//! side is given up.
//!
//! Handlers and the caller act at fixed places of the byte stream, so that what they do does not
//! depend on the pieces between two of them.
#![no_main]

#[path = "../../crates/mux/tests/it/manual.rs"]
#[allow(dead_code, reason = "the model test uses more of it")]
mod manual;

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use sinew_mux::{
    CallerStream, CheckedMuxConfig, Connection, Detached, MuxConfig, PREFACE, ReceivedRequest,
    Role, Serving, Sessions,
};
use sinew_plane::{
    Budget, Code, EndpointName, Error, InstanceId, ItemBatch, OutgoingRequest, ProcessId,
    ResponseSink, ResponseSource, ResumeReason, SinkTarget, SourceEvent, StreamId, Window,
};

use crate::manual::{End, Manual};

/// Bytes between two places where this side acts.
const BLOCK: usize = 512;

/// The window of the stream of this side.
const WINDOW: Window = Window { items: 4, bytes: 100 };

/// Far more than all windows and limits together; nothing is refused for want of memory.
const BUDGET_BYTES: usize = 1 << 34;
const MOST_HELD: usize = 128 << 20;

const GRACE: Duration = Duration::from_secs(20);

fn config(settings: u8) -> CheckedMuxConfig {
    let mut config = MuxConfig {
        process: ProcessId(7),
        integrity: settings & 2 != 0,
        resume_grace: GRACE,
        ..MuxConfig::default()
    };
    if settings & 4 != 0 {
        config.max_streams = 2;
        config.max_message_bytes = 64;
        config.request_window_bytes = 100;
    }
    config.checked().expect("valid settings")
}

/// The preface and a hello of process 9, which keeps streams.
fn greeting() -> Vec<u8> {
    let entry = |key: u8, value: u8| [0, key, 0, 8, 0, 0, 0, 0, 0, 0, 0, value];
    let header: &[u8] = &[0, 0, 26, 0x01, 0, 0, 0, 0, 1, 1];
    [&PREFACE, header, &entry(1, 9), &entry(6, 1)].concat()
}

fn stream(settings: u8, data: &[u8]) -> Vec<u8> {
    let mut stream = if settings & 8 != 0 { greeting() } else { Vec::new() };
    stream.extend(data);
    stream
}

/// A request of the peer at its handler.
struct Served {
    id: StreamId,
    sink: Option<ResponseSink>,
    context: sinew_plane::Context,
    acts: u32,
}

/// One end of a connection, and what runs on it.
struct Peer {
    end: End,
    budget: Arc<Budget>,
    sessions: Arc<Sessions<Manual>>,
    detached: Arc<Detached<Manual>>,
    call: Option<Arc<CallerStream<Manual>>>,
    /// The stream of this side is given up as soon as it is opened.
    abandons: bool,
    arrived: Vec<ReceivedRequest<Manual>>,
    served: Vec<Served>,
    log: Vec<String>,
    now: Instant,
}

impl Served {
    fn new(request: ReceivedRequest<Manual>) -> Self {
        let context = request.context().clone();
        let response = request.response as Arc<dyn SinkTarget>;
        let sink = Some(ResponseSink::new(response, context.clone()));
        Self { id: request.opened.open.id, sink, context, acts: 0 }
    }

    /// Makes one item more, or ends.
    fn act(&mut self, log: &mut Vec<String>) {
        let Some(sink) = &mut self.sink else { return };
        if self.context.is_stopped() {
            log.push(format!("{} is cancelled: {:?}", self.id, self.context.reason()));
            self.sink = None;
            return;
        }
        self.acts += 1;
        match (self.acts, self.id.0 % 4) {
            (1, 0) => sink.accept(),
            (1, 1) => {
                let refusal = Error::new(Code::Overloaded, "not now");
                self.sink.take().expect("it is there").reject(refusal);
            }
            (4.., 2) => self.sink.take().expect("it is there").complete(),
            _ => {
                let sent = sink.try_send(Bytes::from_static(b"item"));
                sink.flush();
                log.push(format!("{} makes an item: {}", self.id, sent.is_ok()));
            }
        }
    }
}

impl Peer {
    fn new(settings: u8, direct: bool) -> Self {
        let role = if settings & 1 == 0 { Role::Acceptor } else { Role::Dialler };
        let (config, now) = (config(settings), Instant::now());
        let budget = Budget::new(BUDGET_BYTES);
        let (sessions, detached) = (Arc::<Sessions<_>>::default(), Arc::<Detached<_>>::default());
        let account = Some(budget.open());
        let connection =
            Connection::new(role, &config, Serving::Admits, account, Manual::default());
        let connection = Arc::new(connection.with_detached(Arc::clone(&detached)));
        let mut end = End::new(connection, &config, Arc::clone(&sessions), now);
        end.direct = direct;
        Self {
            end,
            budget,
            sessions,
            detached,
            call: None,
            abandons: settings & 64 != 0,
            arrived: Vec::new(),
            served: Vec::new(),
            log: Vec::new(),
            now,
        }
    }

    /// Takes a block in, in pieces of `step` bytes. False when the peer broke the protocol.
    fn read(&mut self, block: &[u8], step: usize) -> bool {
        for piece in block.chunks(step) {
            let arrived = &mut self.arrived;
            let handled = self.end.handle_input(piece, self.now, |request| arrived.push(request));
            if let Err(error) = handled {
                self.log.push(format!("{error:?}"));
                self.end.refuse_peer(&error);
                self.end.connection.end(&Error::from(error));
                return false;
            }
        }
        true
    }

    /// Everybody has a turn, and what is to be written is.
    fn act(&mut self) {
        for request in self.arrived.drain(..) {
            let opened = &request.opened;
            assert!(opened.open.endpoint().len() <= 1024);
            self.log.push(format!("{opened:?}"));
            self.served.push(Served::new(request));
        }
        for served in &mut self.served {
            served.act(&mut self.log);
        }
        self.write();
        self.open();
        self.poll();
        self.write();
        assert!(self.budget.total() <= MOST_HELD, "{} bytes are held", self.budget.total());
    }

    fn write(&mut self) {
        let mut wire = BytesMut::new();
        self.end.write(usize::MAX, &mut wire);
        if !wire.is_empty() {
            self.log.push(format!("writes {wire:?}"));
        }
    }

    /// Opens the stream of this side once it can.
    fn open(&mut self) {
        if self.call.is_some() || !self.end.is_established {
            return;
        }
        let endpoint = EndpointName::new("a", "b", "c").expect("a valid name");
        let mut request = OutgoingRequest::new(endpoint, InstanceId(1), Bytes::new());
        request.window = Some(WINDOW);
        let opened = self.end.connection.try_open(&request, "a/b/c", StreamId(1));
        let Ok(call) = opened.expect("it may be sent") else { return };
        // It has a secret, which is another each time.
        self.end.write(usize::MAX, &mut BytesMut::new());
        if self.abandons {
            call.abandon();
        }
        self.call = Some(call);
    }

    /// The caller takes what is there. True when its stream has ended.
    fn poll(&mut self) -> bool {
        let Some(call) = self.call.as_ref().filter(|_| !self.abandons) else { return true };
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut batch = ItemBatch::new();
            let polled = call.poll_batch(&mut cx, &mut batch);
            let items: Vec<Bytes> = batch.collect();
            assert!(items.len() <= WINDOW.items as usize, "items without credit");
            match polled {
                Poll::Pending => return false,
                Poll::Ready(SourceEvent::Items) => self.log.push(format!("takes {items:?}")),
                Poll::Ready(ended) => {
                    self.log.push(format!("has {ended:?}"));
                    return true;
                }
            }
        }
    }

    /// The connection is lost, if it is still there, and nobody comes back in time.
    fn end(mut self, is_whole: bool) -> Vec<String> {
        if is_whole {
            let due = self.end.poll_timeout();
            self.log.push(format!("looks: {:?}", self.end.handle_timeout(due)));
            self.act();
            let error = Error::new(Code::ConnectionLost, "lost");
            self.end.connection.lost(&error, ResumeReason::Lost, due);
            self.sessions.handle_timeout(due + GRACE);
            self.detached.handle_timeout(due + GRACE);
        }
        let mut rest = BytesMut::new();
        self.end.write_rest(&mut rest);
        self.log.push(format!("last words {rest:?}"));
        assert!(self.poll(), "a stream without an end");
        for Served { id, sink, context, .. } in &self.served {
            assert!(sink.is_none() || context.is_killed(), "nobody told the handler of {id}");
            self.log.push(format!("{id}: {:?}", context.reason()));
        }
        let Self { budget, log, .. } = self;
        drop((self.end, self.call, self.arrived, self.served, self.sessions, self.detached));
        assert_eq!(budget.total(), 0, "memory is left behind");
        log
    }
}

/// Reads the stream in pieces of `step` bytes, `direct`ly into large messages or not: what could be
/// seen of it.
fn read(settings: u8, stream: &[u8], step: usize, direct: bool) -> Vec<String> {
    let mut peer = Peer::new(settings, direct);
    let mut is_whole = true;
    for block in stream.chunks(BLOCK) {
        is_whole = peer.read(block, step);
        peer.act();
        if !is_whole {
            break;
        }
    }
    peer.end(is_whole)
}

fuzz_target!(|data: &[u8]| {
    let Some((&settings, data)) = data.split_first() else { return };
    let stream = stream(settings, data);
    let whole = read(settings, &stream, BLOCK, false);
    let step = 1 + usize::from(settings >> 4);
    for direct in [false, true] {
        assert_eq!(read(settings, &stream, step, direct), whole);
    }
});
