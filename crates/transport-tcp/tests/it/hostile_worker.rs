//! A worker that breaks the rules, made by hand, and a client of ours.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::StreamExt;
use sinew_mux::{Event, Inbound, MuxConfig, Outbound, Role};
use sinew_plane::{
    Address, Code, Context, DuplexTransport, Error, Executed, Outcome, ResponseStream, StopKind,
    Terminal,
};
use sinew_transport_tcp::TcpTransport;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::fixture::{client, config, open, request, soon};

struct Worker {
    socket: TcpStream,
    inbound: Inbound,
    outbound: Outbound,
    buffer: BytesMut,
}

impl Worker {
    /// Accepts a client and answers its hello.
    async fn accept(listener: &TcpListener) -> Self {
        let (socket, _) = soon("a client", listener.accept()).await.unwrap();
        let mux = MuxConfig::default().checked().unwrap();
        let inbound = Inbound::new(Role::Acceptor, &mux, Instant::now());
        let outbound = Outbound::new(Role::Acceptor, &mux);
        let mut worker = Self { socket, inbound, outbound, buffer: BytesMut::new() };
        let Event::Hello(hello) = worker.event().await else { panic!("a hello comes first") };
        worker.outbound.on_hello(hello);
        worker.send(&[]).await;
        worker
    }

    /// The next thing that the client says.
    async fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.inbound.poll_event(Instant::now()).unwrap() {
                return event;
            }
            while !self.inbound.ingest(&mut self.buffer).unwrap() {
                let read = soon("the client", self.socket.read_buf(&mut self.buffer)).await;
                assert_ne!(read.unwrap(), 0, "the client closed the connection");
            }
        }
    }

    /// The number of the stream that the client opens next.
    async fn opened(&mut self) -> u32 {
        match self.event().await {
            Event::Opened(opened) => opened.stream,
            other => panic!("{other:?}"),
        }
    }

    /// Writes `frames`, and behind them what the outbound has.
    async fn send(&mut self, frames: &[u8]) {
        let batch = self.outbound.take_batch();
        let bytes: Vec<u8> =
            frames.iter().copied().chain(batch.parts().flatten().copied()).collect();
        self.socket.write_all(&bytes).await.unwrap();
    }
}

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes();
    frame.rotate_left(1);
    frame[3] = kind;
    [&frame[..], &stream.to_be_bytes(), payload].concat()
}

fn accept(stream: u32) -> Vec<u8> {
    frame(0x03, stream, b"")
}

fn item(stream: u32) -> Vec<u8> {
    frame(0x04, stream, b"x")
}

/// A frame with the first 4,000 bytes of an item of 5,000.
fn item_begin(stream: u32) -> Vec<u8> {
    frame(0x05, stream, &[&5_000_u32.to_be_bytes()[..], &[b'x'; 4_000]].concat())
}

fn complete(stream: u32, items: u64) -> Vec<u8> {
    frame(0x07, stream, &items.to_be_bytes())
}

fn failed(stream: u32, items: u64) -> Vec<u8> {
    let error = [&301_u16.to_be_bytes()[..], &[2, 0, 0, 0, 0]].concat();
    frame(0x08, stream, &[&items.to_be_bytes()[..], &error].concat())
}

fn cancelled(stream: u32, items: u64) -> Vec<u8> {
    frame(0x09, stream, &[&items.to_be_bytes()[..], &[1]].concat())
}

fn reject(stream: u32) -> Vec<u8> {
    frame(0x0A, stream, &[&401_u16.to_be_bytes()[..], &[0, 0, 0, 0, 0]].concat())
}

/// Two calls on one connection to a worker made by hand, and the number of the first.
struct Rig {
    worker: Worker,
    stream: u32,
    first: ResponseStream,
    second: ResponseStream,
    _client: TcpTransport,
}

async fn rig() -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::new("tcp", &listener.local_addr().unwrap().to_string()).unwrap();
    let client = client(config());
    let (mut worker, first) = tokio::join!(Worker::accept(&listener), open(&client, &address, ""));
    let stream = worker.opened().await;
    let second = open(&client, &address, "").await.unwrap();
    worker.opened().await;
    Rig { worker, stream, first: first.unwrap(), second, _client: client }
}

async fn read(stream: &mut ResponseStream) -> (u64, Error) {
    let mut items = 0;
    loop {
        match soon("an end", stream.next()).await {
            Some(Ok(_)) => items += 1,
            Some(Err(error)) => return (items, error),
            None => panic!("the stream counts as complete"),
        }
    }
}

/// I3 and I5: an end that does not fit is a breach of protocol, told at once to the caller of
/// the stream and to all others on the connection, which ends.
#[tokio::test]
async fn an_end_that_does_not_fit_is_a_violation_at_once() {
    type Lie = fn(u32) -> Vec<u8>;
    let lies: [(&str, u64, Lie); 17] = [
        ("complete after 2 where 1 came", 1, |s| [item(s), complete(s, 2)].concat()),
        ("complete after 0 where 1 came", 1, |s| [item(s), complete(s, 0)].concat()),
        ("complete after 1 where none came", 0, |s| complete(s, 1)),
        ("complete inside an item", 0, |s| [item_begin(s), complete(s, 0)].concat()),
        ("complete inside the second item", 1, |s| {
            [item(s), item_begin(s), complete(s, 1)].concat()
        }),
        ("reject behind an item", 1, |s| [item(s), reject(s)].concat()),
        ("reject inside an item", 0, |s| [accept(s), item_begin(s), reject(s)].concat()),
        ("reject inside an item, not accepted", 0, |s| [item_begin(s), reject(s)].concat()),
        ("failed after 3 where 1 came", 1, |s| [item(s), failed(s, 3)].concat()),
        ("cancelled after 3 where none came", 0, |s| cancelled(s, 3)),
        ("the largest count", 0, |s| [accept(s), complete(s, u64::MAX)].concat()),
        ("an item inside another", 0, |s| [item_begin(s), item(s)].concat()),
        ("a large item inside another", 0, |s| [item_begin(s), item_begin(s)].concat()),
        ("a chunk outside an item", 1, |s| [item(s), frame(0x06, s, b"x")].concat()),
        ("a terminal that cannot be read", 1, |s| [item(s), frame(0x07, s, b"x")].concat()),
        ("a critical frame of unknown kind", 1, |s| [item(s), frame(0x3f, s, b"")].concat()),
        ("too many frames to skip", 1, |s| [item(s), frame(0x93, s, b"").repeat(50_000)].concat()),
    ];
    for (lie, items, frames) in lies {
        let mut rig = rig().await;
        rig.worker.send(&frames(rig.stream)).await;
        let began = Instant::now();
        let (received, error) = read(&mut rig.first).await;
        assert_eq!((received, error.code()), (items, Code::Violation), "{lie}: {error}");
        assert_ne!(error.executed(), Executed::No, "{lie}");
        assert!(!matches!(rig.first.outcome(), Some(Outcome::Complete { .. })), "{lie}");
        let (received, error) = read(&mut rig.second).await;
        assert_eq!((received, error.code()), (0, Code::Violation), "{lie}: {error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{lie}: {:?}", began.elapsed());
    }
}

/// What others on the connection had is a true beginning, and their error says why it ended.
#[tokio::test]
async fn a_violation_truncates_the_other_streams_and_says_why() {
    let mut rig = rig().await;
    let other = rig.stream + 2;
    rig.worker.send(&[item(other), item(rig.stream), complete(rig.stream, 9)].concat()).await;
    assert_eq!(read(&mut rig.first).await.1.code(), Code::Violation);
    let (received, error) = read(&mut rig.second).await;
    assert_eq!((received, error.code(), error.executed()), (1, Code::Truncated, Executed::Yes));
    assert!(error.message().contains("broke the protocol"), "{error}");
    assert!(matches!(rig.second.outcome(), Some(Outcome::Truncated { received: 1 })));
}

/// I4: what came of an item is let go of when its stream is given up: another one may begin,
/// which inside the first would break the rules and end the connection.
#[tokio::test]
async fn what_came_of_an_item_goes_with_the_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::new("tcp", &listener.local_addr().unwrap().to_string()).unwrap();
    let client = client(config());
    let (mut worker, response) =
        tokio::join!(Worker::accept(&listener), open(&client, &address, ""));
    let mut given_up = response.unwrap();
    let stream = worker.opened().await;
    worker.send(&item_begin(stream)).await;
    soon("the item to begin", given_up.started()).await.unwrap();
    drop(given_up);
    assert!(matches!(worker.event().await, Event::Cancel { stream: it, .. } if it == stream));

    let mut next = open(&client, &address, "").await.unwrap();
    let other = worker.opened().await;
    worker.outbound.terminal(other, &Terminal::Complete { items: 0 }, 0);
    worker.send(&item_begin(stream)).await;
    let item = soon("the end", next.next()).await;
    assert!(item.is_none(), "{item:?}");
    assert!(matches!(next.outcome(), Some(Outcome::Complete { items: 0 })));
}

/// Opens a call with this context at a worker that says hello and then nothing.
async fn open_at_silence(context: Context) -> (Worker, ResponseStream, TcpTransport) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::new("tcp", &listener.local_addr().unwrap().to_string()).unwrap();
    let client = client(config());
    let request = request("").with_context(context);
    let (mut worker, stream) =
        tokio::join!(Worker::accept(&listener), client.open(&address, request));
    worker.opened().await;
    (worker, stream.unwrap(), client)
}

fn assert_not_accepted(error: &Error, limit: &str) {
    assert_eq!((error.code(), error.executed()), (Code::AcceptTimedOut, Executed::Maybe));
    assert!(error.message().contains("accept limit"), "{error}");
    assert!(error.message().contains(limit), "{error}");
}

/// I5: a worker that says hello, answers pings and never accepts. The caller hears of the limit,
/// asked for the start or for items, and the worker of the cancel.
#[tokio::test]
async fn a_worker_that_never_accepts_is_given_up_at_the_limit() {
    let limited = || Context::builder().accept_timeout(Duration::from_millis(300)).build();
    let (mut worker, mut stream, _client) = open_at_silence(limited()).await;
    let error = soon("the limit", stream.started()).await.unwrap_err();
    assert_not_accepted(&error, "300ms");
    assert_not_accepted(&stream.started().await.unwrap_err(), "300ms");
    let Event::Cancel { kind, .. } = worker.event().await else { panic!("a cancel comes") };
    assert_eq!(kind, StopKind::Kill);
    assert_not_accepted(&read(&mut stream).await.1, "300ms");
    assert!(matches!(stream.outcome(), Some(Outcome::Failed { .. })));

    let (mut worker, mut stream, _client) = open_at_silence(limited()).await;
    assert_not_accepted(&read(&mut stream).await.1, "300ms");
    assert!(matches!(worker.event().await, Event::Cancel { kind: StopKind::Kill, .. }));
}

#[tokio::test]
async fn a_worker_that_never_accepts_is_given_up_after_ten_seconds_by_default() {
    let (_worker, mut stream, _client) = open_at_silence(Context::new()).await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let error = stream.started().await.unwrap_err();
    assert_not_accepted(&error, "10s");
    assert_eq!(began.elapsed().as_secs(), 10);
}
