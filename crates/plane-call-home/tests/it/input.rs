//! Request streams: the items of a request that its worker fetches from the caller.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sinew_dynamo_wire::{StreamType, TcpStreamConnectionInfo};
use sinew_plane::{
    BoxStream, CancelReason, Code, Context, Error, Origin, RequestStream, RequestStreamClient,
    RequestStreamServer, StreamId,
};
use sinew_plane_call_home::{TcpStreamClient, TcpStreamServer, TcpStreamServerConfig};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::{
    delivery::{any_caller, arrived, caller, connect, drain, plain, request, worker},
    fixture::{soon, until},
    wire::{RawWorker, SENTINEL, frame, header, item},
};

fn items(texts: &'static [&'static str]) -> BoxStream<'static, Bytes> {
    stream::iter(texts.iter().copied().map(Bytes::from)).boxed()
}

/// Some items, and then no end.
fn endless(texts: &'static [&'static str]) -> BoxStream<'static, Bytes> {
    items(texts).chain(stream::pending()).boxed()
}

async fn fetch(worker: &TcpStreamClient, info: &str) -> RequestStream {
    let fetched = worker.connect_request_stream(info, Origin::SameHost, arrived(info));
    soon("the dial back", fetched).await.unwrap()
}

async fn next(stream: &mut RequestStream) -> Option<Result<Bytes, Error>> {
    soon("an item or the end", stream.next()).await
}

#[tokio::test]
async fn items_reach_the_worker_and_end_cleanly() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let context = Context::new();
    let sent = items(&["one", "", "three"]);
    let registered = caller.register_request_stream(&context, sent).unwrap();
    let mut fetched = fetch(&worker, registered.connection_info()).await;
    for text in ["one", "", "three"] {
        assert_eq!(next(&mut fetched).await.unwrap().unwrap(), text);
    }
    assert!(next(&mut fetched).await.is_none());
    assert!(!fetched.context().is_stopped());
    until("the caller to have done", || caller.streams() == 0).await;
}

#[tokio::test]
async fn the_caller_sends_the_bytes_of_dynamo() {
    let caller = any_caller();
    let registered = caller.register_request_stream(&Context::new(), items(&["one"])).unwrap();
    let mut worker = RawWorker::dial(&caller, registered.connection_info()).await;
    worker.socket.shutdown().await.unwrap();
    assert_eq!(worker.receive().await.unwrap(), (vec![], b"one".to_vec()));
    assert_eq!(worker.control().await.as_deref(), Some(SENTINEL));
    assert!(worker.receive().await.is_none());
}

#[tokio::test]
async fn a_cancel_is_the_one_closing_frame() {
    for kill in [false, true] {
        let caller = any_caller();
        let context = Context::new();
        let registered = caller.register_request_stream(&context, endless(&["one"])).unwrap();
        let mut worker = RawWorker::dial(&caller, registered.connection_info()).await;
        assert_eq!(worker.receive().await.unwrap().1, b"one");
        if kill {
            context.kill()
        } else {
            context.stop()
        }
        let word = if kill { "\"kill\"" } else { "\"stop\"" };
        assert_eq!(worker.control().await.as_deref(), Some(word));
        assert!(worker.receive().await.is_none());
    }
}

/// A caller by hand that sends these bytes and closes.
async fn from_raw_caller(bytes: Vec<u8>) -> (Vec<Bytes>, Option<Error>, Context) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let info = TcpStreamConnectionInfo {
        address: listener.local_addr().unwrap().to_string(),
        subject: "any".into(),
        context: sinew_dynamo_wire::context_text(StreamId(3)),
        stream_type: StreamType::Request,
        sinew: None,
    };
    let worker = worker(plain());
    let mut fetched = fetch(&worker, &info.to_text()).await;
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut raw = RawWorker { socket };
    assert_eq!(
        raw.control().await.as_deref(),
        Some(r#"{"subject":"any","stream_type":"request"}"#)
    );
    assert!(raw.receive().await.is_none(), "the worker ends its direction");
    socket = raw.socket;
    socket.write_all(&bytes).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut items = Vec::new();
    let error = loop {
        match next(&mut fetched).await {
            Some(Ok(item)) => items.push(item),
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    assert!(next(&mut fetched).await.is_none(), "one end");
    (items, error, fetched.context().clone())
}

#[tokio::test]
async fn the_worker_tells_the_ends_apart() {
    let (items, error, context) = from_raw_caller([item("one"), header(SENTINEL)].concat()).await;
    assert!(items == ["one"] && error.is_none() && !context.is_stopped());

    let (_, error, context) = from_raw_caller([item("one"), header("\"stop\"")].concat()).await;
    assert_eq!(error.unwrap().code(), Code::Cancelled);
    assert!(context.is_stopped() && !context.is_killed());

    let (_, error, context) = from_raw_caller([item("one"), header("\"kill\"")].concat()).await;
    assert_eq!(error.unwrap().code(), Code::Cancelled);
    assert_eq!(context.reason(), Some(CancelReason::Caller));
    assert!(context.is_killed());

    for cut in [item("one"), [&item("one")[..], &item("two")[..26]].concat()] {
        let (items, error, context) = from_raw_caller(cut).await;
        assert_eq!(items, ["one"]);
        assert_eq!(error.unwrap().code(), Code::Truncated);
        assert!(context.is_killed());
        assert_eq!(context.reason(), Some(CancelReason::Disconnected));
    }
}

#[tokio::test]
async fn an_item_of_no_bytes_arrives_and_a_heartbeat_is_none() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let sent = items(&["", "one", ""]);
    let registered = caller.register_request_stream(&Context::new(), sent).unwrap();
    let mut fetched = fetch(&worker, registered.connection_info()).await;
    for item in ["", "one", ""] {
        assert_eq!(next(&mut fetched).await.unwrap().unwrap(), item);
    }
    assert!(next(&mut fetched).await.is_none());

    let beats = frame(b"", b"").repeat(20);
    let (items, error, _) = from_raw_caller([beats, item("one"), header(SENTINEL)].concat()).await;
    assert!(items == ["one"] && error.is_none(), "{error:?}");
}

#[tokio::test]
async fn a_caller_that_breaks_the_protocol_kills_the_request() {
    for bytes in [
        frame(b"", b"").repeat(1000),
        header(r#"{"error":null}"#),
        header("\"halt\""),
        frame(SENTINEL.as_bytes(), b"x"),
        frame(b"\"head\"", b""),
        frame(b"\"facts\"", b"\x01a\0\0"),
        [0xFF; 24].to_vec(),
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
    ] {
        let (_, error, context) = from_raw_caller(bytes.clone()).await;
        assert_eq!(error.unwrap().code(), Code::Violation, "{bytes:?}");
        assert!(context.is_killed());
    }
}

#[tokio::test]
async fn a_local_kill_ends_the_wait_for_an_item() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let registered = caller.register_request_stream(&Context::new(), endless(&[])).unwrap();
    let mut fetched = fetch(&worker, registered.connection_info()).await;
    let context = fetched.context().clone();
    let (ended, ()) = tokio::join!(next(&mut fetched), async { context.kill() });
    assert_eq!(ended.unwrap().unwrap_err().code(), Code::Cancelled);
}

/// Counts the items that were taken from it.
fn counted(taken: &Arc<AtomicUsize>) -> BoxStream<'static, Bytes> {
    let taken = Arc::clone(taken);
    stream::repeat_with(move || {
        taken.fetch_add(1, Ordering::Relaxed);
        Bytes::from(vec![0; 64 << 10])
    })
    .boxed()
}

#[tokio::test]
async fn a_worker_that_does_not_read_holds_up_the_caller_and_one_that_drops_frees_it() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let taken = Arc::new(AtomicUsize::new(0));
    let registered = caller.register_request_stream(&Context::new(), counted(&taken)).unwrap();
    let fetched = fetch(&worker, registered.connection_info()).await;
    // Until nothing more is taken for a while, which the sockets bound.
    let mut before = usize::MAX;
    soon("the sender to be held up", async {
        while std::mem::replace(&mut before, taken.load(Ordering::Relaxed)) != before {
            // tidy-allow: sleep, nothing tells that nothing more happens
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    assert!(before < 4096, "256 MiB were taken for a worker that reads nothing");
    drop(fetched);
    until("the caller to let go", || caller.streams() == 0).await;
}

#[tokio::test]
async fn a_kill_reaches_a_worker_that_does_not_read() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let taken = Arc::new(AtomicUsize::new(0));
    let context = Context::new();
    let registered = caller.register_request_stream(&context, counted(&taken)).unwrap();
    let mut fetched = fetch(&worker, registered.connection_info()).await;
    assert!(next(&mut fetched).await.unwrap().is_ok());
    context.kill();
    until("the caller to let go", || caller.streams() == 0).await;
    let error = loop {
        match next(&mut fetched).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("a stream that was killed is not complete"),
        }
    };
    assert!(matches!(error.code(), Code::Cancelled | Code::Truncated), "{error:?}");
    assert!(fetched.context().is_killed());
}

#[tokio::test]
async fn a_registration_is_withdrawn_when_it_is_dropped_and_used_once() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let context = Context::new();
    let registered = caller.register_request_stream(&context, items(&["x"])).unwrap();
    let info = registered.connection_info().to_owned();
    assert!(caller.register_request_stream(&context, items(&["x"])).is_err(), "one a request");
    drop(registered);
    assert_eq!(caller.streams(), 0);
    let mut late = fetch(&worker, &info).await;
    assert!(next(&mut late).await.unwrap().is_err());
    assert!(late.context().is_killed());

    let registered = caller.register_request_stream(&context, endless(&["x"])).unwrap();
    let mut first = fetch(&worker, registered.connection_info()).await;
    assert_eq!(next(&mut first).await.unwrap().unwrap(), "x");
    let mut second = fetch(&worker, registered.connection_info()).await;
    assert!(next(&mut second).await.unwrap().is_err());
    assert!(!first.context().is_killed());
}

/// Both halves of a request with items each way, and their ends.
#[tokio::test]
async fn both_directions_of_a_request_work_and_end_together() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let request = request();
    let response = sinew_plane::ResponsePlaneServer::register(&caller, &request).unwrap();
    let input = items(&["a", "b", "c"]);
    let input = caller.register_request_stream(&request.context, input).unwrap();
    let context = arrived(&response.connection_info);
    let fetched = worker
        .connect_request_stream(input.connection_info(), Origin::SameHost, context.clone())
        .await
        .unwrap();
    let mut sink = connect(&worker, &response.connection_info).await;
    tokio::spawn(async move {
        let mut fetched = pin!(fetched);
        while let Some(item) = fetched.next().await {
            sink.send(item.unwrap().to_ascii_uppercase().into()).await.unwrap();
        }
        sink.complete();
    });
    assert_eq!(drain(response.stream).await.0, ["A", "B", "C"]);
}

#[tokio::test]
async fn a_kill_reaches_both_halves() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let request = request();
    let response = sinew_plane::ResponsePlaneServer::register(&caller, &request).unwrap();
    let input = caller.register_request_stream(&request.context, endless(&["a"])).unwrap();
    let mut fetched = fetch(&worker, input.connection_info()).await;
    let mut sink = connect(&worker, &response.connection_info).await;
    assert_eq!(next(&mut fetched).await.unwrap().unwrap(), "a");
    sink.send(Bytes::from("A")).await.unwrap();
    request.context.kill();
    soon("the response half", sink.context().killed()).await;
    assert_eq!(next(&mut fetched).await.unwrap().unwrap_err().code(), Code::Cancelled);
}

#[tokio::test]
async fn a_caller_that_closes_ends_request_streams() {
    let caller = caller(TcpStreamServerConfig::default());
    let worker = worker(plain());
    let undialled: &TcpStreamServer = &caller;
    let kept = undialled.register_request_stream(&Context::new(), endless(&[])).unwrap();
    let running = caller.register_request_stream(&Context::new(), endless(&["x"])).unwrap();
    let mut fetched = fetch(&worker, running.connection_info()).await;
    assert_eq!(next(&mut fetched).await.unwrap().unwrap(), "x");
    soon("the close", caller.close(Duration::from_millis(50))).await;
    assert_eq!(next(&mut fetched).await.unwrap().unwrap_err().code(), Code::Truncated);
    drop(kept);
    assert_eq!(caller.streams(), 0);
}
