//! The serving side of the request plane: acknowledgements in order, one port for all, and callers
//! that misbehave.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use sinew_plane::{Code, DuplexServer, Executed, Headers, RequestPlaneClient};
use sinew_plane_request_tcp::{TcpRequestConfig, TcpRequestServerConfig};
use sinew_transport_tcp::{TcpServer, TcpTransport};

use crate::fixture::{
    ANY, Raw, Taker, answer, caller, config, echo, frame, open, send, soon, tcp, tcp_address,
    until, worker, worker_over,
};

fn good() -> Vec<u8> {
    frame(b"1f/a/b/c", b"{\"request-id\":\"7\"}", b"payload")
}

/// The listener has taken no harm.
async fn still_serves(server: &TcpServer) {
    let at = server.local_address().unwrap();
    send(&caller(TcpRequestConfig::default()), at, "1f/a/b/c").await.unwrap();
}

#[tokio::test]
async fn a_request_reaches_the_handler_and_is_acknowledged_in_exactly_these_bytes() {
    let taker: Arc<Taker> = Arc::default();
    let server = worker(config(), &taker);
    let mut raw = Raw::connect(&server).await;
    raw.write(&good()).await;
    assert_eq!(raw.answer().await, "");
    {
        let taken = taker.0.lock();
        assert_eq!(
            (taken[0].target.as_str(), &taken[0].payload[..]),
            ("1f/a/b/c", &b"payload"[..])
        );
        assert_eq!(taken[0].headers.iter().collect::<Vec<_>>(), [("request-id", "7")]);
    }
    for (path, text) in [
        ("overloaded", "Server overloaded: worker at capacity"),
        ("1f/unknown", "Server unavailable: unknown endpoint 1f/unknown"),
        ("draining", "Server unavailable: the worker is going away"),
    ] {
        raw.write(&frame(path.as_bytes(), b"", b"")).await;
        assert_eq!(raw.answer().await, text);
    }
    assert_eq!(taker.count(), 1);
}

#[tokio::test]
async fn headers_travel_and_bad_ones_count_as_none() {
    let taker: Arc<Taker> = Arc::default();
    let server = worker(config(), &taker);
    let mut headers = Headers::new();
    headers
        .insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .unwrap();
    let (caller, at) = (caller(TcpRequestConfig::default()), server.local_address().unwrap());
    let body = Bytes::from(vec![3; 300_000]);
    let sent = caller.send_request(format!("{at}/1f/a/b/c"), body.clone(), headers.clone());
    soon("the answer", sent).await.unwrap();
    let mut raw = Raw::connect(&server).await;
    for json in [&b"not json"[..], b"[]", b"{\"a\":\"\xff\"}", b""] {
        raw.write(&frame(b"p", json, b"")).await;
        assert_eq!(raw.answer().await, "");
    }
    headers.insert("x-endpoint-path", "1f/a/b/c").unwrap();
    let taken = taker.0.lock();
    assert_eq!(taken[0].headers, headers);
    assert!(taken[0].payload == body);
    assert!(taken[1..].iter().all(|it| it.headers.is_empty()) && taken.len() == 5);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let taker: Arc<Taker> = Arc::default();
    let server = worker(config(), &taker);
    let mut raw = Raw::connect(&server).await;
    let requests: Vec<_> =
        (0..200).map(|n| format!("{n}/{}", if n % 3 == 0 { "unknown" } else { "x" })).collect();
    let mut bytes: Vec<u8> =
        requests.iter().flat_map(|path| frame(path.as_bytes(), b"{}", b"x")).collect();
    // Cut at an awkward place.
    let rest = bytes.split_off(1234);
    raw.write(&bytes).await;
    raw.write(&rest).await;
    for path in &requests {
        let refused = format!("Server unavailable: unknown endpoint {path}");
        let expected = if path.ends_with('x') { "" } else { refused.as_str() };
        assert_eq!(raw.answer().await, expected);
    }
    let accepted = requests.iter().filter(|path| path.ends_with('x'));
    assert!(taker.0.lock().iter().map(|it| &it.target).eq(accepted));
}

#[tokio::test]
async fn answers_to_many_requests_leave_together() {
    let taker: Arc<Taker> = Arc::default();
    let server = worker(config(), &taker);
    let mut raw = Raw::connect(&server).await;
    raw.write(&frame(b"p", b"", b"").repeat(1_000)).await;
    let (mut reads, mut bytes) = (0, 0);
    let mut buffer = vec![0; 8_000];
    while bytes < 4_000 {
        use tokio::io::AsyncReadExt;
        bytes += soon("answers", raw.socket.read(&mut buffer)).await.unwrap();
        reads += 1;
    }
    assert!(reads <= 10, "{reads} pieces for 1,000 answers");
}

#[tokio::test]
async fn a_request_that_comes_byte_by_byte_is_taken() {
    let taker: Arc<Taker> = Arc::default();
    let server = worker(config(), &taker);
    let mut raw = Raw::connect(&server).await;
    raw.socket.set_nodelay(true).unwrap();
    for byte in good() {
        raw.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.answer().await, "");
}

#[tokio::test]
async fn one_port_serves_mux_and_request_plane_at_the_same_time() {
    let taker: Arc<Taker> = Arc::default();
    let server = worker(config(), &taker);
    let (at, address) = (server.local_address().unwrap(), tcp_address(&server));
    let (mux, plane) =
        (TcpTransport::new(tcp().checked().unwrap()), caller(TcpRequestConfig::default()));
    let streams = (0..50).map(|_| async {
        let mut response = open(&mux, &address, "over the mux").await.unwrap();
        assert_eq!(soon("the echo", response.next()).await.unwrap().unwrap(), "over the mux");
    });
    let requests = (0..50).map(|_| async { send(&plane, at, "1f/a/b/c").await.unwrap() });
    tokio::join!(join_all(streams), join_all(requests));
    assert_eq!((taker.count(), server.connections()), (50, 2));
}

#[tokio::test]
async fn without_a_handler_the_request_plane_is_not_served() {
    let server = TcpServer::bind(tcp().checked().unwrap(), ANY, Arc::new(echo)).unwrap();
    let mut raw = Raw::connect(&server).await;
    raw.write(&good()).await;
    assert_eq!(raw.rest().await, b"");
}

#[tokio::test]
async fn other_protocols_are_closed_without_a_word_and_cost_nobody() {
    let taker: Arc<Taker> = Arc::default();
    let server = worker(config(), &taker);
    let mut good_one = Raw::connect(&server).await;
    good_one.write(&good()).await;
    assert_eq!(good_one.answer().await, "");
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\0",
        b"{\"json\":1}",
        b"\x7f\x45\x4c\x46",
    ] {
        let mut raw = Raw::connect(&server).await;
        raw.write(bytes).await;
        assert_eq!(raw.rest().await, b"", "{bytes:?}");
    }
    good_one.write(&good()).await;
    assert_eq!(good_one.answer().await, "");
    assert_eq!(taker.count(), 2);
}

#[tokio::test]
async fn a_peer_that_does_not_begin_is_closed_in_time() {
    let taker = Arc::default();
    let mut tcp = tcp();
    tcp.driver.handshake_timeout = Duration::from_millis(50);
    let server = worker_over(tcp, config(), &taker);
    for start in [&b""[..], b"\0", b"\x16", b"\xff"] {
        let mut raw = Raw::connect(&server).await;
        raw.write(start).await;
        assert_eq!(raw.rest().await, b"", "{start:?}");
    }
    still_serves(&server).await;
}

/// The refusal is one of the closed set, and the connection ends behind it.
#[tokio::test]
async fn malformed_and_oversized_requests_are_refused_in_words_and_closed() {
    let taker: Arc<Taker> = Arc::default();
    let server = worker(TcpRequestServerConfig { max_request_bytes: 10_000, ..config() }, &taker);
    let huge = [&b"\x00\x01p\x00\x00"[..], &u32::MAX.to_be_bytes()].concat();
    for (bytes, reason) in [
        (frame(b"p", b"{}", &[0; 9_990]), "exceeds the limit of 10000"),
        (huge, "exceeds the limit of 10000"),
        (frame(b"a\xff\xfeb", b"", b""), "not UTF-8"),
        (frame(b"a\x1b[2Jb", b"", b""), "control characters"),
        (b"\x04\x01\0\0".to_vec(), "a path of 1025 bytes"),
    ] {
        let mut raw = Raw::connect(&server).await;
        // What came before is answered, what comes behind is not.
        raw.write(&[good(), bytes, good()].concat()).await;
        assert_eq!(raw.answer().await, "");
        let text = raw.answer().await;
        assert!(text.starts_with("Server unavailable: ") && text.contains(reason), "{text}");
        assert_eq!(raw.rest().await, b"");
    }
    assert_eq!(taker.count(), 5);
    still_serves(&server).await;
}

#[tokio::test]
async fn a_request_that_is_begun_and_not_finished_is_refused_in_time() {
    let taker = Arc::default();
    let config = TcpRequestServerConfig { frame_timeout: Duration::from_millis(60), ..config() };
    let server = worker(config, &taker);
    for len in [2, 9, good().len() - 1] {
        let mut raw = Raw::connect(&server).await;
        raw.write(&good()[..len]).await;
        let text = raw.answer().await;
        assert!(text.starts_with("Server unavailable: a request was begun"), "{text}");
        assert_eq!(raw.rest().await, b"");
    }
}

#[tokio::test]
async fn a_trickle_is_not_progress_and_an_idle_connection_is_not_a_trickle() {
    let taker: Arc<Taker> = Arc::default();
    let config = TcpRequestServerConfig { frame_timeout: Duration::from_millis(200), ..config() };
    let server = worker(config, &taker);
    let mut raw = Raw::connect(&server).await;
    raw.write(&good()).await;
    assert_eq!(raw.answer().await, "");
    // Longer than the limit between two requests.
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..15 {
        ticks.tick().await;
    }
    raw.write(&good()).await;
    assert_eq!(raw.answer().await, "");
    let begun = Instant::now();
    raw.write(&[b"\x00\x01p\x00\x00", &(1_u32 << 20).to_be_bytes()[..]].concat()).await;
    let trickle = async {
        use tokio::io::AsyncWriteExt;
        while raw.socket.write_all(b"x").await.is_ok() {
            ticks.tick().await;
        }
    };
    soon("the end of the trickle", trickle).await;
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(taker.count(), 2);
}

#[tokio::test]
async fn a_long_request_that_comes_along_may_take_longer_than_the_limit() {
    let taker: Arc<Taker> = Arc::default();
    let config = TcpRequestServerConfig { frame_timeout: Duration::from_millis(150), ..config() };
    let server = worker(config, &taker);
    let mut raw = Raw::connect(&server).await;
    let bytes = frame(b"p", b"", &vec![1; 1 << 20]);
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for piece in bytes.chunks(50_000) {
        ticks.tick().await;
        raw.write(piece).await;
    }
    assert_eq!(raw.answer().await, "");
    assert_eq!(taker.0.lock()[0].payload.len(), 1 << 20);
}

/// I4: answers to a peer that reads none do not gather, and its requests are not read on.
#[tokio::test]
async fn a_peer_that_does_not_read_its_answers_is_not_read_and_then_cut() {
    let taker: Arc<Taker> = Arc::default();
    let config = TcpRequestServerConfig { write_timeout: Duration::from_millis(300), ..config() };
    let server = worker(config, &taker);
    let mut raw = Raw::connect(&server).await;
    let path = format!("{}/unknown", "p".repeat(900));
    let many = frame(path.as_bytes(), b"", b"").repeat(100);
    let mut sent = 0_usize;
    soon("the server to give up", async {
        use tokio::io::AsyncWriteExt;
        while raw.socket.write_all(&many).await.is_ok() {
            sent += many.len();
        }
    })
    .await;
    // What fills the sockets both ways, and one piece of reading.
    assert!(sent < 64 << 20, "{sent} bytes were read from a peer that reads nothing");
    still_serves(&server).await;
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_own_connection() {
    let taker: Arc<Taker> = Arc::default();
    let server = worker(config(), &taker);
    let at = server.local_address().unwrap();
    let (one, other) = (caller(TcpRequestConfig::default()), caller(TcpRequestConfig::default()));
    send(&other, at, "p").await.unwrap();
    // It may have run before it panicked, so this is no refusal.
    let error = send(&one, at, "panic").await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectionLost, Executed::Maybe));
    send(&other, at, "p").await.unwrap();
    send(&one, at, "p").await.unwrap();
}

#[tokio::test]
async fn the_longest_idle_makes_room_whatever_it_speaks() {
    let taker: Arc<Taker> = Arc::default();
    let mut limits = tcp();
    limits.listen.max_connections = 3;
    limits.listen.max_connections_per_peer = Some(3);
    let server = worker_over(limits, config(), &taker);
    let mut silent = Raw::connect(&server).await;
    until("the silent one to be accepted", || server.connections() == 1).await;
    let mut framed = Raw::connect(&server).await;
    framed.write(&good()).await;
    assert_eq!(framed.answer().await, "");
    let mux = TcpTransport::new(tcp().checked().unwrap());
    let mut response = open(&mux, &tcp_address(&server), "x").await.unwrap();
    soon("the echo", response.next()).await.unwrap().unwrap();
    let mut fourth = Raw::connect(&server).await;
    fourth.write(&good()).await;
    assert_eq!(fourth.answer().await, "");
    assert_eq!(silent.rest().await, b"", "it was idle for longest");
    let mut fifth = Raw::connect(&server).await;
    fifth.write(&good()).await;
    assert_eq!(fifth.answer().await, "");
    assert_eq!(framed.rest().await, b"", "and then this one");
    fourth.write(&good()).await;
    assert_eq!(fourth.answer().await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_twice_the_callers_limit() {
    let taker = Arc::default();
    let server = worker(
        TcpRequestServerConfig { idle_timeout: Duration::from_millis(60), ..config() },
        &taker,
    );
    let mut raw = Raw::connect(&server).await;
    raw.write(&good()).await;
    assert_eq!(raw.answer().await, "");
    let since = Instant::now();
    assert_eq!(raw.rest().await, b"");
    assert!(since.elapsed() >= Duration::from_millis(115), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_draining_server_refuses_in_words_until_it_ends() {
    let taker: Arc<Taker> = Arc::default();
    let server = worker(config(), &taker);
    let mut raw = Raw::connect(&server).await;
    raw.write(&good()).await;
    assert_eq!(raw.answer().await, "");
    server.drain();
    for _ in 0..3 {
        raw.write(&good()).await;
        assert_eq!(raw.answer().await, "Server unavailable: the worker is shutting down");
    }
    // Sent, and perhaps not read before the end: answered all the same.
    raw.write(&good()).await;
    let cut = soon("the server to end", server.shutdown(Duration::from_secs(20))).await;
    assert_eq!((cut.cut_streams, taker.count()), (0, 1));
    assert_eq!(raw.rest().await, answer("Server unavailable: the worker is shutting down"));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_callers_that_keep_their_connections() {
    let taker = Arc::default();
    let server = worker(config(), &taker);
    let plane = caller(TcpRequestConfig::default());
    send(&plane, server.local_address().unwrap(), "p").await.unwrap();
    let silent = Raw::connect(&server).await;
    let begun = Instant::now();
    soon("the server to end", server.shutdown(Duration::from_secs(600))).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(silent);
}

/// What was accepted is known to its caller, and what was refused is safe to send elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_request_is_reported_as_refused_while_a_server_ends() {
    for _ in 0..20 {
        let taker: Arc<Taker> = Arc::default();
        let server = worker(config(), &taker);
        let at = server.local_address().unwrap();
        let plane = caller(TcpRequestConfig::default());
        let storms: Vec<_> = (0..32)
            .map(|_| {
                let plane = plane.clone();
                tokio::spawn(async move {
                    let (mut accepted, mut unknown) = (0, 0);
                    loop {
                        match send(&plane, at, "p").await {
                            Ok(_) => accepted += 1,
                            Err(error) if error.executed() == Executed::No => break,
                            Err(_) => unknown += 1,
                        }
                    }
                    (accepted, unknown)
                })
            })
            .collect();
        soon("some requests", async {
            while taker.count() < 200 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        soon("the server to end", server.shutdown(Duration::from_secs(5))).await;
        let (mut accepted, mut unknown) = (0, 0);
        for storm in storms {
            let (more, lost) = soon("a caller", storm).await.unwrap();
            accepted += more;
            unknown += lost;
        }
        let taken = taker.count();
        assert!(accepted <= taken && taken <= accepted + unknown, "{accepted} {taken} {unknown}");
    }
}
