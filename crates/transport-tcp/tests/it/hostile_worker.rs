//! A worker that breaks the rules, made by hand, and a client of ours.

use std::time::Instant;

use bytes::BytesMut;
use futures_util::StreamExt;
use sinew_mux::{Event, Inbound, MuxConfig, Outbound, Role};
use sinew_plane::{Address, Outcome, Terminal};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::fixture::{client, config, open, soon};

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

/// A frame with the first 4,000 bytes of an item of 5,000.
fn item_begin(stream: u32) -> Vec<u8> {
    const KIND: u8 = 0x05;
    let payload = [&5_000_u32.to_be_bytes()[..], &[b'x'; 4_000]].concat();
    let mut frame = (payload.len() as u32).to_be_bytes();
    frame.rotate_left(1);
    frame[3] = KIND;
    [&frame[..], &stream.to_be_bytes(), &payload].concat()
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
