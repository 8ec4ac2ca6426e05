//! The bytes of a call-home connection, and peers that get them wrong or stop half-way.

use std::time::Duration;

use bytes::Bytes;
use sinew_dynamo_wire::{SinewOffer, StreamType, TcpStreamConnectionInfo};
use sinew_plane::{
    CancelReason, Code, Context, Executed, Origin, Outcome, ResponsePlaneClient,
    ResponsePlaneServer, ResponseRegistration, ResponseSink, StreamId,
};
use sinew_plane_call_home::{
    ListenConfig, TcpStreamClient, TcpStreamClientConfig, TcpStreamServerConfig,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::{
    delivery::{any_caller, caller, connect, drain, next, plain, request, worker},
    fixture::{soon, until},
    wire::{PROLOGUE, READY, RawWorker, SENTINEL, checked, expect, frame, header, item, receive},
};

/// The transcript of the wire description, with the caller's part played by this crate.
#[tokio::test]
async fn the_caller_understands_the_bytes_of_dynamo() {
    let caller = any_caller();
    let (stream, mut worker) = expect(&caller).await;
    worker.send(b"\0\0\0\0\0\0\0\x0e\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0{\"error\":null}").await;
    let hello = r#"{"data":{"data":"hello-0"},"complete_final":false}"#;
    worker.send(&item(hello)).await;
    worker.send(&item(r#"{"complete_final":true}"#)).await;
    worker.send(b"\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\"sentinel\"").await;
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, [hello, r#"{"complete_final":true}"#]);
    assert!(matches!(outcome, Outcome::Complete { items: 2 }));
    assert!(worker.receive().await.is_none(), "the caller closes without a word");
}

/// A caller by hand: where it listens, and the info that names it.
pub(crate) struct RawCaller {
    listener: TcpListener,
    info: String,
    /// It offers to say that it still waits.
    confirms: bool,
}

const SUBJECT: &str = "11111111-2222-4333-8444-555555555555";

impl RawCaller {
    async fn bind(stream_type: StreamType) -> Self {
        Self::offering(stream_type, None).await
    }

    pub(crate) async fn offering(stream_type: StreamType, sinew: Option<SinewOffer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let confirms = sinew.as_ref().is_some_and(|offer| offer.v >= 2);
        let info = TcpStreamConnectionInfo {
            address: listener.local_addr().unwrap().to_string(),
            subject: SUBJECT.into(),
            context: sinew_dynamo_wire::context_text(StreamId(9)),
            stream_type,
            sinew,
        };
        Self { listener, info: info.to_text(), confirms }
    }

    /// Lets a worker of this crate dial in, and hears its handshake.
    pub(crate) async fn accept(&self, worker: &TcpStreamClient) -> (TcpStream, ResponseSink) {
        let context = Context::builder().id(StreamId(9)).build();
        let dial = worker.connect(&self.info, Origin::SameHost, context);
        let answer = async {
            let (mut socket, _) = self.listener.accept().await.unwrap();
            let confirm = if self.confirms { r#","confirm":true"# } else { "" };
            let handshake =
                format!(r#"{{"subject":"{SUBJECT}","stream_type":"response"{confirm}}}"#);
            assert_eq!(receive(&mut socket).await.unwrap(), (handshake.into_bytes(), vec![]));
            if self.confirms {
                socket.write_all(&header(READY)).await.unwrap();
            }
            socket
        };
        let (socket, sink) = tokio::join!(answer, soon("the dial", dial));
        (socket, sink.unwrap())
    }
}

/// The same, with the worker's part played by this crate.
#[tokio::test]
async fn the_worker_speaks_the_bytes_of_dynamo() {
    let (caller, worker) = (RawCaller::bind(StreamType::Response).await, worker(plain()));
    let (mut socket, mut sink) = caller.accept(&worker).await;
    for body in ["hello-0", "hello-1"] {
        sink.send(Bytes::from(body)).await.unwrap();
    }
    sink.complete();
    for (head, body) in [(PROLOGUE, ""), ("", "hello-0"), ("", "hello-1"), (SENTINEL, "")] {
        let (got_head, got_body) = receive(&mut socket).await.unwrap();
        assert_eq!((got_head, got_body), (head.as_bytes().to_vec(), body.as_bytes().to_vec()));
    }
    drop(socket);
    // With the caller's FIN seen there is nothing left to wait for.
    let closed = soon("the close", worker.close(Duration::from_secs(60))).await;
    assert_eq!(closed.cut_streams, 0);
}

#[tokio::test]
async fn an_error_before_the_first_item_is_a_typed_prologue_and_a_sentinel() {
    let (caller, worker) = (RawCaller::bind(StreamType::Response).await, worker(plain()));
    let (mut socket, sink) = caller.accept(&worker).await;
    sink.fail(sinew_plane::Error::handler("engine refused fail"));
    let (head, body) = receive(&mut socket).await.unwrap();
    assert!(body.is_empty());
    let head = String::from_utf8(head).unwrap();
    for part in [
        r#""error":"engine refused fail""#,
        r#""typed_error":{"error_type":"Unknown","class":"Internal","reason":"runtime.unclassified""#,
        r#""message":"engine refused fail""#,
    ] {
        assert!(head.contains(part), "{part} in {head}");
    }
    assert_eq!(receive(&mut socket).await.unwrap().0, SENTINEL.as_bytes());
}

/// What a stock caller gets for a stream that is cancelled: no more data, no sentinel, EOF.
#[tokio::test]
async fn a_stop_or_a_kill_ends_in_eof_without_a_sentinel() {
    let offer = SinewOffer { v: 1, process: None, token: None };
    for (word, killed, sinew) in [
        ("\"stop\"", false, None),
        ("\"kill\"", true, None),
        ("\"stop\"", false, Some(offer.clone())),
        ("\"kill\"", true, Some(offer)),
    ] {
        let caller = RawCaller::offering(StreamType::Response, sinew).await;
        let worker = worker(plain());
        let (mut socket, mut sink) = caller.accept(&worker).await;
        sink.send(Bytes::from("one")).await.unwrap();
        receive(&mut socket).await.unwrap();
        receive(&mut socket).await.unwrap();
        socket.write_all(&header(word)).await.unwrap();
        soon("the cancel", sink.context().stopped()).await;
        if killed {
            // Even if the handler keeps its sink.
            assert!(receive(&mut socket).await.is_none());
            assert!(sink.context().is_killed());
        } else {
            assert!(!sink.context().is_killed());
            drop(sink);
            assert!(receive(&mut socket).await.is_none());
        }
    }
}

#[tokio::test]
async fn a_stop_may_be_followed_by_a_kill() {
    let (caller, worker) = (RawCaller::bind(StreamType::Response).await, worker(plain()));
    let (mut socket, sink) = caller.accept(&worker).await;
    // Also when both arrive at once, and the first one in pieces.
    let both = [header("\"stop\""), header("\"kill\"")].concat();
    socket.write_all(&both[..7]).await.unwrap();
    socket.write_all(&both[7..]).await.unwrap();
    soon("the kill", sink.context().killed()).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_or_talks_nonsense_kills_the_handler() {
    let long = frame(&[b' '; 2000], b"");
    for bytes in [
        &b""[..],
        &header("\"sentinel\""),
        &header(PROLOGUE),
        &header("\"halt\""),
        &frame(b"\"stop\"", b"with data"),
        &item("data"),
        &long,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0xFF; 64],
    ] {
        let (caller, worker) = (RawCaller::bind(StreamType::Response).await, worker(plain()));
        let (mut socket, mut sink) = caller.accept(&worker).await;
        sink.send(Bytes::from("one")).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let kept = if bytes.is_empty() {
            drop(socket);
            None
        } else {
            Some(socket)
        };
        soon("the kill", sink.context().killed()).await;
        assert_eq!(sink.context().reason(), Some(CancelReason::Disconnected), "{bytes:?}");
        drop(kept);
    }
}

#[tokio::test]
async fn a_caller_that_does_not_close_is_left_in_time() {
    let config = TcpStreamClientConfig { close_timeout: Duration::from_millis(50), ..plain() };
    let (caller, worker) = (RawCaller::bind(StreamType::Response).await, worker(config));
    let (socket, sink) = caller.accept(&worker).await;
    sink.complete();
    assert_eq!(soon("the close", worker.close(Duration::from_secs(60))).await.cut_streams, 0);
    drop(socket);
}

#[tokio::test]
async fn a_worker_that_breaks_the_protocol_is_killed_and_the_stream_fails() {
    let prologue = header(PROLOGUE);
    let then = |bytes: Vec<u8>| [prologue.clone(), bytes].concat();
    for (what, bytes) in [
        ("an item before the prologue", item("early")),
        ("a sentinel before the prologue", header(SENTINEL)),
        ("a prologue with data", frame(PROLOGUE.as_bytes(), b"x")),
        ("a second prologue", then(header(PROLOGUE))),
        ("a stop from the worker", then(header("\"stop\""))),
        ("a kill from the worker", then(header("\"kill\""))),
        ("a sentinel with data", then(frame(SENTINEL.as_bytes(), b"x"))),
        ("an unknown control word", then(header("\"halt\""))),
        ("a prologue that is no prologue", header(r#"{"error":5}"#)),
        ("no JSON", header("{")),
        ("a header over its limit", frame(&vec![b' '; 70_000], b"")),
        ("no frame", then(b"GET / HTTP/1.1\r\nhost: somewhere\r\n\r\n".to_vec())),
        ("a length that overflows", then([0xFF; 24].to_vec())),
        (
            "a wrong checksum",
            then(
                [&[0, 0, 0, 0, 0, 0, 0, 0][..], &[0, 0, 0, 0, 0, 0, 0, 1], &[9; 8], b"x"].concat(),
            ),
        ),
    ] {
        let caller = any_caller();
        let (mut stream, mut worker) = expect(&caller).await;
        worker.send(&bytes).await;
        let Some(Err(error)) = next(&mut stream).await else { panic!("{what} was accepted") };
        assert_eq!(error.code(), Code::Violation, "{what}: {error:?}");
        assert!(!error.is_safe_to_resend(), "{what}");
        assert_eq!(worker.control().await.as_deref(), Some("\"kill\""), "{what}");
        assert_eq!(caller.streams(), 0);
    }
}

#[tokio::test]
async fn items_before_a_violation_are_delivered() {
    let caller = any_caller();
    let (stream, mut worker) = expect(&caller).await;
    worker.send(&[header(PROLOGUE), item("one"), item("two"), header("\"stop\"")].concat()).await;
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, ["one", "two"]);
    assert!(matches!(outcome, Outcome::Truncated { received: 2 }), "{outcome:?}");
}

/// Upstream took in 512 MiB of one unfinished frame.
#[tokio::test]
async fn a_frame_beyond_the_limit_is_refused_when_its_length_is_known() {
    let caller = caller(TcpStreamServerConfig { max_frame_bytes: 4096, ..Default::default() });
    for length in [4096 - 24 + 1, 1 << 40, u64::MAX] {
        let (mut stream, mut worker) = expect(&caller).await;
        worker.send(&header(PROLOGUE)).await;
        let mut prefix = [0; 24];
        prefix[8..16].copy_from_slice(&length.to_be_bytes());
        worker.send(&prefix).await;
        let error = next(&mut stream).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Violation);
        assert_eq!(worker.control().await.as_deref(), Some("\"kill\""));
    }
    // The largest that is allowed.
    let (stream, mut worker) = expect(&caller).await;
    let largest = "x".repeat(4096 - 24);
    worker.send(&[header(PROLOGUE), item(&largest), header(SENTINEL)].concat()).await;
    assert_eq!(drain(stream).await.0, [largest]);
}

#[tokio::test]
async fn a_checksum_is_accepted_when_it_is_right() {
    let caller = any_caller();
    let (stream, mut worker) = expect(&caller).await;
    worker
        .send(&[&checked(PROLOGUE, "")[..], &checked("", "item"), &checked(SENTINEL, "")].concat())
        .await;
    assert_eq!(drain(stream).await.0, ["item"]);
}

#[tokio::test]
async fn frames_that_come_byte_by_byte_are_understood() {
    let caller = any_caller();
    let (stream, mut worker) = expect(&caller).await;
    let empty = header("\"item\"");
    let bytes = [header(PROLOGUE), item("one"), empty, header(SENTINEL)].concat();
    let writer = tokio::spawn(async move {
        for byte in bytes {
            worker.send(&[byte]).await;
            tokio::task::yield_now().await;
        }
        worker
    });
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, ["one", ""]);
    assert!(matches!(outcome, Outcome::Complete { items: 2 }));
    writer.await.unwrap();
}

/// A frame without header and without body.
fn heartbeats(count: usize) -> Vec<u8> {
    frame(b"", b"").repeat(count)
}

#[tokio::test]
async fn heartbeats_are_no_items_and_a_flood_of_them_ends_the_stream() {
    let caller = any_caller();
    let (stream, mut worker) = expect(&caller).await;
    let some = heartbeats(20);
    worker
        .send(
            &[&some[..], &header(PROLOGUE), &some, &item("one"), &some, &header(SENTINEL)].concat(),
        )
        .await;
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, ["one"]);
    assert!(matches!(outcome, Outcome::Complete { items: 1 }), "{outcome:?}");

    let (stream, mut worker) = expect(&caller).await;
    worker.send(&[header(PROLOGUE), heartbeats(1000), header(SENTINEL)].concat()).await;
    let (items, outcome) = drain(stream).await;
    assert!(items.is_empty());
    assert!(matches!(outcome, Outcome::Truncated { received: 0 }), "{outcome:?}");
    assert_eq!(worker.control().await.as_deref(), Some("\"kill\""));
}

#[tokio::test]
async fn a_caller_may_show_that_it_lives_and_not_without_end() {
    let (caller, worker) = (RawCaller::bind(StreamType::Response).await, worker(plain()));
    let (mut socket, sink) = caller.accept(&worker).await;
    socket.write_all(&[heartbeats(20), header("\"stop\"")].concat()).await.unwrap();
    soon("the stop", sink.context().stopped()).await;
    assert!(!sink.context().is_killed());
    socket.write_all(&heartbeats(1000)).await.unwrap();
    soon("the kill", sink.context().killed()).await;
}

/// Dynamo has no such item, an earlier version of Sinew has it without a header.
#[tokio::test]
async fn an_item_of_no_bytes_is_told_as_its_caller_understands_it() {
    let offer = |v| Some(SinewOffer { v, process: None, token: None });
    for (sinew, told) in [(None, None), (offer(1), Some("")), (offer(3), Some("\"item\""))] {
        let caller = RawCaller::offering(StreamType::Response, sinew).await;
        let worker = worker(plain());
        let (mut socket, mut sink) = caller.accept(&worker).await;
        let sent = sink.send(Bytes::new()).await;
        let Some(told) = told else {
            assert_eq!(sent.unwrap_err().code(), Code::InvalidPayload);
            continue;
        };
        sent.unwrap();
        assert_eq!(receive(&mut socket).await.unwrap().0, PROLOGUE.as_bytes());
        let (head, body) = receive(&mut socket).await.unwrap();
        assert_eq!((head.as_slice(), body.as_slice()), (told.as_bytes(), &b""[..]));
    }
}

#[tokio::test]
async fn an_error_prologue_fails_the_call_typed_or_not() {
    let caller = any_caller();
    for (status, code, executed) in [
        (r#"{"error":"boom"}"#, Code::HandlerFailed, Executed::Maybe),
        (
            r#"{"error":"boom","typed_error":{"error_type":"Unknown","class":"Internal","reason":"runtime.unclassified","message":"boom","diagnostic":"boom"}}"#,
            Code::HandlerFailed,
            Executed::Maybe,
        ),
        (
            r#"{"error":"boom","typed_error":{"error_type":"InvalidArgument","class":"InvalidRequest","message":"boom"}}"#,
            Code::InvalidPayload,
            Executed::Maybe,
        ),
        (
            r#"{"error":"boom","typed_error":{"class":"FromTheFuture","message":"boom"}}"#,
            Code::HandlerFailed,
            Executed::Maybe,
        ),
        (r#"{"error":"boom","typed_error":"unreadable"}"#, Code::HandlerFailed, Executed::Maybe),
    ] {
        let (mut stream, mut worker) = expect(&caller).await;
        worker.send(&[header(status), header(SENTINEL)].concat()).await;
        let error = soon("the error", stream.started()).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (code, executed), "{status}");
        assert_eq!(error.message(), "boom");
        assert!(matches!(drain(stream).await.1, Outcome::Failed { .. }));
        assert!(worker.receive().await.is_none(), "the caller closes without a kill");
    }
}

#[tokio::test]
async fn a_connection_that_ends_early_is_no_end_of_the_stream() {
    let caller = any_caller();
    // Before the prologue: it may have run.
    let (mut stream, worker) = expect(&caller).await;
    drop(worker);
    let error = soon("the loss", stream.started()).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectionLost, Executed::Maybe));
    // After it, and in the middle of a frame.
    for rest in [&b""[..], &item("two")[..26]] {
        let (stream, mut worker) = expect(&caller).await;
        worker.send(&[&header(PROLOGUE)[..], &item("one"), rest].concat()).await;
        drop(worker);
        let (items, outcome) = drain(stream).await;
        assert_eq!(items, ["one"]);
        assert!(matches!(outcome, Outcome::Truncated { received: 1 }), "{outcome:?}");
    }
}

/// Upstream waits for ever in each of these.
#[tokio::test]
async fn a_worker_that_stalls_before_it_begins_is_given_up_and_killed() {
    let prologue_timeout = Duration::from_millis(100);
    let caller = caller(TcpStreamServerConfig { prologue_timeout, ..Default::default() });
    // It never dials.
    let mut registered = caller.register(&request()).unwrap();
    let error = soon("the limit", registered.stream.started()).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectTimedOut, Executed::Maybe));
    // It dials and says nothing, or half of its prologue.
    for start in [&b""[..], &header(PROLOGUE)[..20]] {
        let (mut stream, mut worker) = expect(&caller).await;
        worker.send(start).await;
        let error = next(&mut stream).await.unwrap().unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::ConnectTimedOut, Executed::Maybe));
        assert_eq!(worker.control().await.as_deref(), Some("\"kill\""));
    }
    assert_eq!(caller.streams(), 0);
}

#[tokio::test]
async fn a_worker_that_stalls_between_items_is_given_up_where_a_limit_is_set() {
    let item_timeout = Some(Duration::from_millis(100));
    let caller = caller(TcpStreamServerConfig { item_timeout, ..Default::default() });
    for stalled in [&b""[..], &item("two")[..26]] {
        let (mut stream, mut worker) = expect(&caller).await;
        worker.send(&[&header(PROLOGUE)[..], &item("one"), stalled].concat()).await;
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), "one");
        // A consumer that takes its time is not the worker's fault.
        // tidy-allow: sleep, slowness is the subject
        tokio::time::sleep(Duration::from_millis(150)).await;
        let (items, outcome) = drain(stream).await;
        assert!(items.is_empty());
        assert!(matches!(outcome, Outcome::Truncated { received: 1 }), "{outcome:?}");
        assert_eq!(worker.control().await.as_deref(), Some("\"kill\""));
    }
    let (mut stream, mut worker) = expect(&caller).await;
    worker.send(&[header(PROLOGUE), item("one")].concat()).await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "one");
    // tidy-allow: sleep, slowness is the subject
    tokio::time::sleep(Duration::from_millis(150)).await;
    worker.send(&[item("two"), header(SENTINEL)].concat()).await;
    assert_eq!(drain(stream).await.0, ["two"]);
}

#[tokio::test]
async fn a_worker_that_is_slow_and_within_the_limit_is_not_given_up() {
    let item_timeout = Some(Duration::from_secs(1));
    let caller = caller(TcpStreamServerConfig { item_timeout, ..Default::default() });
    let (stream, mut worker) = expect(&caller).await;
    let reader = tokio::spawn(drain(stream));
    worker.send(&header(PROLOGUE)).await;
    for _ in 0..5 {
        // tidy-allow: sleep, slowness is the subject
        tokio::time::sleep(Duration::from_millis(300)).await;
        worker.send(&item("x")).await;
    }
    worker.send(&header(SENTINEL)).await;
    assert_eq!(reader.await.unwrap().0.len(), 5);
}

#[tokio::test]
async fn stop_and_kill_leave_at_once_and_a_kill_is_not_softened() {
    let caller = any_caller();
    let (mut stream, mut worker) = expect(&caller).await;
    worker.send(&[header(PROLOGUE), item("one")].concat()).await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "one");
    // Nobody polls the stream here.
    stream.context().stop();
    assert_eq!(worker.control().await.as_deref(), Some("\"stop\""));
    stream.context().stop();
    stream.context().kill();
    assert_eq!(worker.control().await.as_deref(), Some("\"kill\""));
    drop(worker);
    assert!(matches!(drain(stream).await.1, Outcome::Cancelled { reason: CancelReason::Caller }));

    let (mut stream, mut worker) = expect(&caller).await;
    worker.send(&header(PROLOGUE)).await;
    soon("the start", stream.started()).await.unwrap();
    stream.context().kill();
    stream.context().stop();
    assert!(stream.context().is_killed());
    assert_eq!(worker.control().await.as_deref(), Some("\"kill\""));
    worker.socket.shutdown().await.unwrap();
    assert!(matches!(drain(stream).await.1, Outcome::Cancelled { .. }));
    assert!(worker.receive().await.is_none(), "no stop behind the kill");
}

#[tokio::test]
async fn a_cancel_does_not_wait_for_a_worker_that_does_not_answer_it() {
    let cancel_timeout = Duration::from_millis(100);
    let caller = caller(TcpStreamServerConfig { cancel_timeout, ..Default::default() });
    // Before the prologue, softly and hard.
    for kill in [false, true] {
        let (mut stream, mut worker) = expect(&caller).await;
        let context = stream.context().clone();
        let cancel = async {
            worker.send(b"").await;
            if kill { context.kill() } else { context.stop() }
        };
        let (started, ()) = tokio::join!(soon("the end", stream.started()), cancel);
        assert_eq!(started.unwrap_err().code(), Code::Cancelled);
        assert!(matches!(drain(stream).await.1, Outcome::Cancelled { .. }));
    }
    // After it, killed, while the worker goes on sending.
    let (mut stream, mut worker) = expect(&caller).await;
    worker.send(&header(PROLOGUE)).await;
    soon("the start", stream.started()).await.unwrap();
    stream.context().kill();
    let (items, outcome) = drain(stream).await;
    assert!(items.is_empty());
    assert!(matches!(outcome, Outcome::Cancelled { .. }), "{outcome:?}");
    assert_eq!(worker.control().await.as_deref(), Some("\"kill\""));
}

#[tokio::test]
async fn connections_for_no_stream_are_killed_and_leave_the_others_alone() {
    let caller = any_caller();
    let ResponseRegistration { connection_info, stream } = caller.register(&request()).unwrap();
    let info = TcpStreamConnectionInfo::from_text(&connection_info).unwrap();
    let handshake = |subject: &str, kind: &str| {
        header(&format!(r#"{{"subject":"{subject}","stream_type":"{kind}"}}"#))
    };
    for bytes in [
        handshake(SUBJECT, "response"),
        handshake("nonsense", "response"),
        handshake("", "response"),
        // The right subject for the wrong direction does not use it up.
        handshake(&info.subject, "request"),
    ] {
        let mut stranger = RawWorker::connect(&caller).await;
        stranger.send(&bytes).await;
        assert_eq!(stranger.control().await.as_deref(), Some("\"kill\""));
        assert!(stranger.receive().await.is_none());
    }
    for bytes in [
        handshake(&info.subject, "both"),
        header("{}"),
        header("[]"),
        item("data"),
        frame(b"{}", b"data"),
        frame(&[b' '; 1025], b""),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        [0; 24].to_vec(),
        [0xFF; 64].to_vec(),
    ] {
        let mut stranger = RawWorker::connect(&caller).await;
        stranger.send(&bytes).await;
        let mut said = Vec::new();
        // A reset is as good an end as a close.
        let read = tokio::io::AsyncReadExt::read_to_end(&mut stranger.socket, &mut said);
        let _ = soon("the caller to close", read).await;
        assert!(said.len() < 512, "{bytes:?}");
    }
    let mut own = RawWorker::dial(&caller, &connection_info).await;
    own.send(&[header(PROLOGUE), item("mine"), header(SENTINEL)].concat()).await;
    assert_eq!(drain(stream).await.0, ["mine"]);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let handshake_timeout = Duration::from_millis(100);
    let caller = caller(TcpStreamServerConfig { handshake_timeout, ..Default::default() });
    for start in [&b""[..], b"\0", &header(r#"{"subject":"#)[..26], b"\xffSNEW"] {
        let mut silent = RawWorker::connect(&caller).await;
        silent.send(start).await;
        let mut said = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut silent.socket, &mut said);
        let _ = soon("the caller to close", read).await;
    }
    until("the connections to be gone", || caller.connections() == 0).await;
}

#[tokio::test]
async fn connections_have_a_limit() {
    let listen = ListenConfig {
        max_connections: 2,
        max_connections_per_peer: Some(2),
        ..Default::default()
    };
    let caller = caller(TcpStreamServerConfig { listen, ..Default::default() });
    let (mut one, mut first) = expect(&caller).await;
    let (mut two, mut second) = expect(&caller).await;
    for (stream, worker) in [(&mut one, &mut first), (&mut two, &mut second)] {
        worker.send(&header(PROLOGUE)).await;
        soon("the start", stream.started()).await.unwrap();
    }
    let (_three, mut third) = expect(&caller).await;
    assert!(third.receive().await.is_none(), "closed as it comes");
    first.send(&header(SENTINEL)).await;
    assert!(matches!(drain(one).await.1, Outcome::Complete { .. }));
    let (four, mut fourth) = expect(&caller).await;
    fourth.send(&[header(PROLOGUE), header(SENTINEL)].concat()).await;
    assert!(matches!(drain(four).await.1, Outcome::Complete { .. }));
}

#[tokio::test]
async fn a_caller_that_closes_is_not_held_up_by_stalled_workers() {
    let caller = any_caller();
    let mut stalled = Vec::new();
    for start in [&b""[..], b"\0", b"\xff"] {
        let mut worker = RawWorker::connect(&caller).await;
        worker.send(start).await;
        stalled.push(worker);
    }
    let (_stream, worker) = expect(&caller).await;
    stalled.push(worker);
    soon("the close", caller.close(Duration::from_millis(50))).await;
    assert_eq!(caller.connections(), 0);
}

/// The stream is polled, cancelled and dropped from threads that know of no runtime.
#[test]
fn a_stream_may_live_outside_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (caller, worker) = runtime.block_on(async { (any_caller(), worker(plain())) });
    let ResponseRegistration { connection_info, stream } = caller.register(&request()).unwrap();
    let mut stream = stream;
    // Nothing is there, so a limit is set.
    let mut waker = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::pin!(stream.started()).as_mut().poll(&mut waker).is_pending());
    let mut sink = runtime.block_on(connect(&worker, &connection_info));
    runtime.block_on(sink.send(Bytes::from("one"))).unwrap();
    let first = futures_util::StreamExt::next(&mut stream);
    assert_eq!(futures_executor(first).unwrap().unwrap(), "one");
    drop(stream);
    runtime.block_on(async { soon("the kill", sink.context().killed()).await });
}

/// The smallest executor: parks the thread.
fn futures_executor<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park_timeout(Duration::from_secs(20)),
        }
    }
}
