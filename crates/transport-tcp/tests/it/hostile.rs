//! Peers that break the rules hurt themselves and nobody else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_mux::{MuxConfig, Open, Outbound, PREFACE, Role};
use sinew_plane::{
    CancelReason, Code, Context, DuplexTransport, Executed, IncomingRequest, InstanceId,
    ResponseSink, StopKind, StreamId, Window,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::fixture::{
    Keep, client, config, driver, echo, listen, open, request, server, soon, tcp_address,
};

/// Sends bytes to the server and returns what it says until it closes.
async fn talk(server: &sinew_transport_tcp::TcpServer, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(server.local_address().unwrap()).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut said = Vec::new();
    // A reset is as good an end as a close.
    let _ = soon("the server to close", socket.read_to_end(&mut said)).await;
    said
}

#[tokio::test]
async fn other_protocols_are_closed_without_a_word() {
    let server = server(config(), echo);
    let client = client(config());
    let address = tcp_address(&server);
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x00\x20" as &[u8],
        b"\x00\x00\x00\x00\x00\x00\x00\x40",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(talk(&server, bytes).await, b"", "{bytes:?}");
    }
    // The listener has taken no harm.
    let mut response = open(&client, &address, "still here").await.unwrap();
    assert_eq!(soon("the echo", response.next()).await.unwrap().unwrap(), "still here");
}

#[tokio::test]
async fn a_peer_that_never_says_hello_is_closed_in_time() {
    let config = driver(|it| it.handshake_timeout = Duration::from_millis(50));
    let server = server(config, echo);
    for start in [&b""[..], &PREFACE[..3], &PREFACE[..]] {
        talk(&server, start).await;
    }
}

#[tokio::test]
async fn garbage_after_the_preface_gets_a_goaway_at_most() {
    let server = server(config(), echo);
    let mut bytes = PREFACE.to_vec();
    bytes.extend([0xFF; 64]);
    let said = talk(&server, &bytes).await;
    assert!(said.len() < 512, "no more is said than was heard, within a frame: {}", said.len());
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_failed_dial() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = sinew_plane::Address::tcp(listener.local_addr().unwrap());
    let config = driver(|it| it.handshake_timeout = Duration::from_millis(50));
    let client = client(config);
    let error = open(&client, &address, "x").await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectTimedOut, Executed::No));
    assert!(error.is_safe_to_resend());
}

#[tokio::test]
async fn a_server_of_another_protocol_is_a_failed_dial() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = sinew_plane::Address::tcp(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let error = open(&client(config()), &address, "x").await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Violation, Executed::No));
}

#[tokio::test]
async fn a_full_server_refuses_while_all_are_used_and_else_closes_the_longest_idle() {
    let config = listen(|it| {
        it.max_connections = 2;
        it.max_connections_per_peer = Some(2);
    });
    let kept = Keep::default();
    let server = server(config.clone(), kept.handler());
    let address = tcp_address(&server);
    let (one, two) = (client(config.clone()), client(config.clone()));
    let mut running = Vec::new();
    for client in [&one, &two] {
        let mut response = open(client, &address, "hi").await.unwrap();
        soon("the start", response.started()).await.unwrap();
        running.push(response);
    }
    let error = open(&client(config.clone()), &address, "hi").await.unwrap_err();
    assert!(error.is_safe_to_resend(), "{error:?}");
    // Both are idle from here on.
    kept.0.lock().unwrap().clear();
    for response in &mut running {
        assert!(soon("the end", response.next()).await.unwrap().is_err());
    }
    let mut clients = Vec::new();
    for _ in 0..8 {
        let newcomer = client(config.clone());
        let mut response = open(&newcomer, &address, "hi").await.unwrap();
        soon("the start", response.started()).await.unwrap();
        kept.0.lock().unwrap().clear();
        assert!(soon("the end", response.next()).await.unwrap().is_err());
        clients.push(newcomer);
    }
    // Whose connection made room for others makes a new one.
    let mut again = open(&one, &address, "again").await.unwrap();
    soon("the start", again.started()).await.unwrap();
    assert!(server.connections() <= 4, "two, and those on their way out");
}

#[tokio::test]
async fn a_stream_beyond_the_limit_waits_and_then_goes_through() {
    let mux = MuxConfig { max_streams: 2, ..MuxConfig::default() };
    let kept = Keep::default();
    let server = server(driver(|it| it.mux = mux), kept.handler());
    let address = tcp_address(&server);
    let client = client(driver(|it| it.open_timeout = Duration::from_millis(100)));
    let mut first = open(&client, &address, "1").await.unwrap();
    let mut second = open(&client, &address, "2").await.unwrap();
    soon("the first to start", first.started()).await.unwrap();
    soon("the second to start", second.started()).await.unwrap();

    let error = open(&client, &address, "3").await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));

    let waiting = tokio::spawn({
        let (client, address) = (client.clone(), address.clone());
        async move { client.open(&address, request("4")).await }
    });
    kept.0.lock().unwrap().remove(0).complete();
    soon("the waiting request", waiting).await.unwrap().unwrap();
}

/// The wait for room is part of the request's time, and its error says what ended it.
#[tokio::test]
async fn a_deadline_and_a_cancel_bound_the_wait_for_room() {
    let mux = MuxConfig { max_streams: 1, ..MuxConfig::default() };
    let kept = Keep::default();
    let server = server(driver(|it| it.mux = mux), kept.handler());
    let address = tcp_address(&server);
    let client = client(driver(|it| it.open_timeout = Duration::from_secs(600)));
    let mut first = open(&client, &address, "1").await.unwrap();
    soon("the first to start", first.started()).await.unwrap();

    // Nothing is on its way any more, so time goes on from timer to timer.
    tokio::time::pause();
    let (began, limit) = (tokio::time::Instant::now(), Duration::from_millis(500));
    let hurried = Context::builder().timeout(limit).build();
    let late = client.open(&address, request("2").with_context(hurried));
    let error = late.await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::No));
    assert_eq!(began.elapsed().as_millis() / 10, limit.as_millis() / 10);
    tokio::time::resume();

    for (reason, code) in [
        (CancelReason::Caller, Code::Cancelled),
        (CancelReason::DeadlineExceeded, Code::DeadlineExceeded),
    ] {
        let context = Context::new();
        let request = request("3").with_context(context.clone());
        let mut waiting = std::pin::pin!(client.open(&address, request));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending(), "there is no room");
        context.cancel(StopKind::Stop, reason);
        let error = soon("the cancel", waiting).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (code, Executed::No));
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off() {
    // The server sends to a client that says hello, asks, grants much, and then never reads.
    let mut config = driver(|it| it.write_timeout = Duration::from_millis(200));
    // More than the sockets hold.
    config.driver.mux.max_window = Window { items: u32::MAX, bytes: u32::MAX };
    let (gone, mut wait_gone) = tokio::sync::mpsc::unbounded_channel();
    let flood = move |_: sinew_plane::IncomingRequest<'_>, mut sink: sinew_plane::ResponseSink| {
        let gone = gone.clone();
        tokio::spawn(async move {
            let item = bytes::Bytes::from(vec![0; 60_000]);
            while sink.send(item.clone()).await.is_ok() {}
            let _ = gone.send(sink.context().reason());
        });
    };
    let server = server(config, flood);
    let (mut socket, mut outbound) = shake_hands(&server).await;
    let window = Window { items: u32::MAX, bytes: u32::MAX };
    let open = Open::new(StreamId(1), "a/b/c", InstanceId(0), window);
    outbound.open(&open, &Bytes::new()).unwrap();
    socket.write_all(&batch(&mut outbound)).await.unwrap();
    let reason = soon("the handler to be told", wait_gone.recv()).await.unwrap();
    assert_eq!(reason, Some(sinew_plane::CancelReason::Disconnected));
    drop(socket);
}

fn batch(outbound: &mut Outbound) -> Vec<u8> {
    outbound.take_batch().parts().flatten().copied().collect()
}

/// A client made by hand, with its hello said and the server's heard.
async fn shake_hands(server: &sinew_transport_tcp::TcpServer) -> (TcpStream, Outbound) {
    let mut socket = TcpStream::connect(server.local_address().unwrap()).await.unwrap();
    let mux = MuxConfig::default().checked().unwrap();
    let mut outbound = Outbound::new(Role::Dialler, &mux);
    socket.write_all(&batch(&mut outbound)).await.unwrap();
    let mut inbound = sinew_mux::Inbound::new(Role::Dialler, &mux, std::time::Instant::now());
    let mut buffer = bytes::BytesMut::new();
    let hello = loop {
        socket.read_buf(&mut buffer).await.unwrap();
        if inbound.ingest(&mut buffer).unwrap() {
            match inbound.poll_event(std::time::Instant::now()).unwrap() {
                Some(sinew_mux::Event::Hello(hello)) => break hello,
                other => panic!("{other:?}"),
            }
        }
    };
    outbound.on_hello(hello);
    (socket, outbound)
}

/// I4: a peer asks, is refused, and never reads the refusals.
#[tokio::test]
async fn a_peer_that_does_not_read_its_refusals_is_not_read_on() {
    let long = "x".repeat(4_000);
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let refuse = move |_: IncomingRequest<'_>, sink: ResponseSink| {
        count.fetch_add(1, Ordering::Relaxed);
        sink.reject(sinew_plane::Error::draining(long.clone()));
    };
    let config = driver(|it| it.write_timeout = Duration::from_millis(500));
    let server = server(config, refuse);
    let (mut socket, mut outbound) = shake_hands(&server).await;
    soon("the server to give up", async {
        loop {
            let window = Window { items: 1, bytes: 1 };
            let open = Open::new(StreamId(1), "a/b/c", InstanceId(0), window);
            outbound.open(&open, &Bytes::new()).unwrap();
            outbound.on_stream_ended();
            if socket.write_all(&batch(&mut outbound)).await.is_err() {
                return;
            }
        }
    })
    .await;
    // 4 KiB each: what fills the sockets, the bound on answers and the last piece of reading.
    let refused = refused.load(Ordering::Relaxed);
    assert!(refused < 20_000, "{refused} requests were answered to a peer that reads nothing");
}

#[tokio::test]
async fn a_handler_that_panics_in_the_reader_ends_its_connection_and_no_other() {
    let server = server(config(), |request: sinew_plane::IncomingRequest<'_>, sink| {
        assert_ne!(&request.body[..], b"bad", "a bug in a handler");
        echo(request, sink);
    });
    let address = tcp_address(&server);
    let (good, bad) = (client(config()), client(config()));
    let mut before = open(&good, &address, "before").await.unwrap();
    assert_eq!(soon("the echo", before.next()).await.unwrap().unwrap(), "before");
    let mut lost = open(&bad, &address, "bad").await.unwrap();
    let error = soon("the loss", lost.next()).await.unwrap().unwrap_err();
    assert!(!error.is_safe_to_resend(), "{error:?}");
    let mut after = open(&good, &address, "after").await.unwrap();
    assert_eq!(soon("the echo", after.next()).await.unwrap().unwrap(), "after");
}
