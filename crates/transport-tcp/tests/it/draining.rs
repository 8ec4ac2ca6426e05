//! Streams that lose their connection while their server drains.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_mux::MuxConfig;
use sinew_plane::{
    Code, DuplexServer, DuplexTransport, Executed, Outcome, ProcessId, ResponseSink, ResponseStream,
};
use sinew_transport_tcp::{TcpServer, TcpTransport};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    attach::{keeping, settings},
    fixture::{driver, request, soon, tcp_address, until},
    gate::Gate,
};

const GRACE: Duration = Duration::from_secs(20);

/// A server behind a gate, and a stream of it with one item.
struct Begun {
    server: TcpServer,
    gate: Gate,
    client: TcpTransport,
    stream: ResponseStream,
    sink: ResponseSink,
    _sinks: UnboundedReceiver<ResponseSink>,
}

fn attentive(process: u64) -> sinew_transport_tcp::TcpConfig {
    driver(|it| {
        it.mux = MuxConfig {
            process: ProcessId(process),
            keepalive_interval: Duration::from_millis(50),
            keepalive_timeout: Duration::from_millis(200),
            ..MuxConfig::default()
        };
    })
}

impl Begun {
    async fn new(config: impl Fn(u64) -> sinew_transport_tcp::TcpConfig) -> Self {
        let (mut sinks, handler) = keeping();
        let server = crate::fixture::server(config(1), handler);
        let gate = Gate::tcp(&server).await;
        let client = TcpTransport::new(config(2).checked().unwrap());
        let mut stream = client.open(&gate.address, request("")).await.unwrap();
        let mut sink = soon("the request", sinks.recv()).await.unwrap();
        sink.send(Bytes::from("one")).await.unwrap();
        assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "one");
        Self { server, gate, client, stream, sink, _sinks: sinks }
    }
}

#[tokio::test]
async fn a_stream_goes_on_when_its_connection_to_a_draining_server_is_cut() {
    let Begun { server, gate, client, mut stream, mut sink, _sinks } = Begun::new(settings).await;
    server.drain();
    until("the goaway", || client.connections() == 0).await;
    let reading = async {
        for number in 0..3 {
            gate.cut();
            sink.send(Bytes::from(format!("{number}"))).await.unwrap();
            let item = soon("an item", stream.next()).await.unwrap().unwrap();
            assert_eq!(item, format!("{number}"));
        }
        sink.complete();
        assert!(soon("the end", stream.next()).await.is_none());
        assert!(matches!(stream.outcome(), Some(Outcome::Complete { items: 4 })));
    };
    let (shutdown, ()) = tokio::join!(server.shutdown(GRACE), reading);
    assert_eq!(shutdown.cut_streams, 0);
}

/// The server has written the end and knows of nothing else to do; the connection is dead.
#[tokio::test]
async fn a_server_ends_when_its_callers_have_the_ends_of_their_streams() {
    let Begun { server, gate, mut stream, sink, client, _sinks } = Begun::new(attentive).await;
    gate.stall();
    sink.complete();
    let ended = async {
        assert!(soon("the end", stream.next()).await.is_none());
        assert!(matches!(stream.outcome(), Some(Outcome::Complete { items: 1 })));
    };
    let (shutdown, ()) = tokio::join!(server.shutdown(GRACE), ended);
    assert_eq!((shutdown.cut_streams, client.connections()), (0, 0));
}

#[tokio::test]
async fn a_draining_server_takes_no_new_request_and_no_connection_without_a_stream() {
    let Begun { server, gate: _gate, mut stream, sink, client, _sinks } =
        Begun::new(attentive).await;
    server.drain();
    let other = TcpTransport::new(settings(3).checked().unwrap());
    let direct = tcp_address(&server);
    let mut refused = other.open(&direct, request("")).await.unwrap();
    let error = soon("the refusal", refused.next()).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Draining, Executed::No), "{error}");
    sink.complete();
    assert!(soon("the end", stream.next()).await.is_none());
    // The server hears that the caller has the end, and then closes what is dialled.
    let closed = async {
        loop {
            let third = TcpTransport::new(settings(4).checked().unwrap());
            if let Err(error) = third.open(&direct, request("")).await {
                return error;
            }
        }
    };
    let error = soon("the closed connection", closed).await;
    assert_eq!(error.executed(), Executed::No, "{error}");
    let shutdown = soon("the shutdown", server.shutdown(GRACE)).await;
    assert_eq!((shutdown.cut_streams, client.connections()), (0, 0));
}
