//! What a server tells a caller made by hand of the admission of its streams: when accept leaves,
//! and that an id is served once.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use sinew_mux::{Event, Inbound, MuxConfig, Open, Outbound, Role};
use sinew_plane::{
    Code, Error, Executed, IncomingRequest, InstanceId, ProcessId, ResponseSink, StreamId,
    Terminal, Window,
};
use sinew_transport_tcp::TcpServer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::fixture::{config, echo, server, soon};

/// A caller that speaks the protocol frame by frame.
struct Caller {
    socket: TcpStream,
    inbound: Inbound,
    outbound: Outbound,
    buffer: BytesMut,
}

impl Caller {
    async fn connect(server: &TcpServer, process: ProcessId) -> Self {
        let address = server.local_address().unwrap();
        let socket = soon("a connection", TcpStream::connect(address)).await.unwrap();
        let mux = MuxConfig { process, ..MuxConfig::default() }.checked().unwrap();
        let inbound = Inbound::new(Role::Dialler, &mux, Instant::now());
        let outbound = Outbound::new(Role::Dialler, &mux);
        let mut caller = Self { socket, inbound, outbound, buffer: BytesMut::new() };
        caller.send().await;
        let Event::Hello(hello) = caller.event().await else { panic!("a hello comes first") };
        caller.outbound.on_hello(hello);
        caller
    }

    async fn send(&mut self) {
        let batch = self.outbound.take_batch();
        let bytes: Vec<u8> = batch.parts().flatten().copied().collect();
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// Opens a stream; returns its number.
    async fn open(&mut self, id: StreamId) -> u32 {
        let window = Window { items: 16, bytes: 1 << 16 };
        let open = Open::new(id, "test/tcp/echo", InstanceId(0), window);
        let opened = self.outbound.open(&open, &Bytes::from_static(b"x"));
        self.send().await;
        opened.unwrap_or_else(|refusal| panic!("{refusal:?}")).0
    }

    /// The next thing that the server says.
    async fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.inbound.poll_event(Instant::now()).unwrap() {
                return event;
            }
            while !self.inbound.ingest(&mut self.buffer).unwrap() {
                let read = soon("the server", self.socket.read_buf(&mut self.buffer)).await;
                assert_ne!(read.unwrap(), 0, "the server closed the connection");
            }
        }
    }

    /// How a stream ends, and what was said on it before: whether it was accepted, and how many
    /// pieces of items.
    async fn end(&mut self, wanted: u32) -> (Terminal, bool, usize) {
        let (mut accepted, mut pieces) = (false, 0);
        loop {
            match self.event().await {
                Event::Accept { stream } if stream == wanted => accepted = true,
                Event::Items { stream, .. } if stream == wanted => pieces += 1,
                Event::Ended { stream, terminal, .. } if stream == wanted => {
                    self.outbound.on_stream_ended();
                    return (terminal, accepted, pieces);
                }
                _ => {}
            }
        }
    }

    async fn refused(&mut self, id: StreamId) -> Error {
        let stream = self.open(id).await;
        match self.end(stream).await.0 {
            Terminal::Failed { error } => error,
            other => panic!("{id} was served: {other:?}"),
        }
    }
}

fn assert_duplicate(error: &Error) {
    assert_eq!(error.code(), Code::DuplicateStream, "{error}");
    // The first one has run or runs: no caller may hear that nothing did.
    assert_ne!(error.executed(), Executed::No);
    assert!(!error.is_safe_to_resend());
}

/// Counts its runs and keeps the sinks of those that ask for it.
fn counting(keep: bool) -> (TcpServer, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let (counted, kept) = (Arc::clone(&runs), Mutex::new(Vec::new()));
    let server = server(config(), move |request: IncomingRequest<'_>, sink: ResponseSink| {
        counted.fetch_add(1, Ordering::Relaxed);
        if keep {
            kept.lock().unwrap().push(sink);
        } else {
            echo(request, sink);
        }
    });
    (server, runs)
}

const ID: StreamId = StreamId(0x5eed);

/// I7: on the same connection, on another one of the same process, and of callers without a name.
#[tokio::test]
async fn an_id_that_runs_is_not_served_again() {
    for process in [0, 7].map(ProcessId) {
        let (server, runs) = counting(true);
        let mut first = Caller::connect(&server, process).await;
        let mut second = Caller::connect(&server, process).await;
        first.open(ID).await;
        for _ in 0..3 {
            assert_duplicate(&first.refused(ID).await);
            assert_duplicate(&second.refused(ID).await);
        }
        assert_eq!(runs.load(Ordering::Relaxed), 1, "process {process}");
    }
}

/// Also when the connection that it ended on is gone.
#[tokio::test]
async fn an_id_that_has_ended_lately_is_not_served_again() {
    let (server, runs) = counting(false);
    let mut caller = Caller::connect(&server, ProcessId(7)).await;
    let stream = caller.open(ID).await;
    assert!(matches!(caller.end(stream).await.0, Terminal::Complete { items: 1 }));
    assert_duplicate(&caller.refused(ID).await);
    drop(caller);
    let mut again = Caller::connect(&server, ProcessId(7)).await;
    assert_duplicate(&again.refused(ID).await);
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    // A refused id does not spoil the connection, and is not refused for ever.
    for number in 0..600 {
        let stream = again.open(StreamId(number)).await;
        assert!(matches!(again.end(stream).await.0, Terminal::Complete { .. }));
    }
    let stream = again.open(ID).await;
    assert!(matches!(again.end(stream).await.0, Terminal::Complete { .. }));
}

#[tokio::test]
async fn what_another_process_has_used_is_no_concern_of_this_one() {
    let (server, runs) = counting(true);
    for process in [7, 8, 0].map(ProcessId) {
        let mut caller = Caller::connect(&server, process).await;
        caller.open(ID).await;
        // A stream behind it shows that the first was taken, and which end it did not have.
        assert_duplicate(&caller.refused(ID).await);
    }
    assert_eq!(runs.load(Ordering::Relaxed), 3);
}

/// A handler that answers at once costs no frame for its admission, and one that says nothing has
/// its caller told within 100 ms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accept_leaves_for_those_that_are_not_answered_and_for_no_others() {
    let (server, _) = counting(false);
    let mut caller = Caller::connect(&server, ProcessId(7)).await;
    for number in 0..200 {
        let opened = Instant::now();
        let stream = caller.open(StreamId(number)).await;
        let (_, accepted, _) = caller.end(stream).await;
        // On a machine that is that slow the answer came behind the acceptance.
        assert!(!accepted || opened.elapsed() > Duration::from_millis(30), "{number}");
    }
    let (server, _) = counting(true);
    let mut caller = Caller::connect(&server, ProcessId(7)).await;
    for number in 0..5 {
        let opened = Instant::now();
        let stream = caller.open(StreamId(number)).await;
        let event = caller.event().await;
        assert!(matches!(event, Event::Accept { stream: it } if it == stream), "{event:?}");
        let waited = opened.elapsed();
        // 100 ms, and as much again for a busy machine many times over.
        assert!(waited < Duration::from_secs(2), "{waited:?}");
    }
}

/// A refusal is no acceptance, and stays the only thing that is said.
#[tokio::test]
async fn a_refused_stream_is_not_accepted_later() {
    let server = server(config(), |_: IncomingRequest<'_>, sink: ResponseSink| {
        sink.reject(Error::new(Code::Overloaded, "no room"));
    });
    let mut caller = Caller::connect(&server, ProcessId(7)).await;
    let refused = caller.open(ID).await;
    assert!(matches!(caller.end(refused).await.0, Terminal::Failed { .. }));
    // Long enough for two looks at what is unanswered.
    let more = tokio::time::timeout(Duration::from_millis(300), caller.event()).await;
    assert!(more.is_err(), "{more:?}");
}
