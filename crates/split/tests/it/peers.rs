//! Both ends of an exchange with a peer that is not Sinew's, through a `PeerCodec`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sinew_plane::{
    Address, Code, DuplexTransport, Executed, InstanceId, LatencyClass, Outcome, OutgoingRequest,
};
use sinew_split::{SplitScheme, SplitServerConfig, SplitTransport};
use sinew_testkit::{
    Call, Received,
    handlers::{counting, spawned},
    reports,
};

use crate::{
    fixture::{MAX_MESSAGE_BYTES, Worker, request_client, response_server, soon, transport, until},
    made_up_peer::{MARK, MadeUpPeer},
};

const PATH: &str = "1f/ns1/backend/generate";

/// A worker that says so often that a response is at its end.
async fn worker(handler: Arc<dyn sinew_plane::RequestHandler>, ends: usize) -> Worker {
    let peer = Some(Arc::new(MadeUpPeer { ends }) as _);
    let config = SplitServerConfig { peer, ..SplitServerConfig::default() };
    Worker::with(handler, config, true).await
}

fn caller() -> SplitTransport {
    let scheme = SplitScheme::new("made-up-tcp", LatencyClass::Network);
    SplitTransport::new(scheme, MAX_MESSAGE_BYTES, request_client(), response_server(true))
        .with_peer(Arc::new(MadeUpPeer { ends: 1 }))
}

fn address(worker: &Worker) -> Address {
    Address::new("made-up-tcp", &format!("{}/{PATH}", worker.host())).unwrap()
}

fn request(body: &'static str) -> OutgoingRequest {
    let name = "ns1/backend/generate".parse().unwrap();
    OutgoingRequest::new(name, InstanceId(0x1f), Bytes::from_static(body.as_bytes()))
}

#[tokio::test]
async fn items_and_headers_pass_through_the_codec_of_each_end() {
    let (reporter, mut seen) = reports();
    let worker = worker(
        spawned(move |mut call: Call| {
            let reporter = reporter.clone();
            async move {
                reporter.tell((call.context.headers().clone(), call.transport.clone()));
                for item in ["a", "", "b"] {
                    call.sink.send(item.into()).await.unwrap();
                }
                call.sink.complete();
            }
        }),
        1,
    )
    .await;
    let transport = caller();
    assert_eq!(transport.id().as_str(), "made-up-tcp");
    let mut request = request("1");
    request.headers.insert("tenant", "blue").unwrap();
    let mut stream = soon("the opening", transport.open(&address(&worker), request)).await.unwrap();
    assert_eq!(Received::read(&mut stream).await.complete(), ["a", "", "b"]);
    let (headers, transport) = seen.next("the request").await;
    assert_eq!((headers.get(MARK), headers.get("tenant")), (Some("1"), Some("blue")));
    assert_eq!(transport.as_str(), "made-up-tcp");
}

#[tokio::test]
async fn callers_of_both_kinds_are_served_side_by_side_and_told_apart() {
    let worker = worker(counting(), 1).await;
    let bare = transport(response_server(true));
    let mut stream = bare.open(&worker.address(), request("3")).await.unwrap();
    assert_eq!(Received::read(&mut stream).await.complete(), ["0", "1", "2"]);
    assert!(!worker.split.has_foreign_callers());
    let transport = caller();
    let mut stream = transport.open(&address(&worker), request("3")).await.unwrap();
    assert_eq!(Received::read(&mut stream).await.complete(), ["0", "1", "2"]);
    assert!(worker.split.has_foreign_callers());
}

#[tokio::test]
async fn a_response_that_does_not_say_that_it_is_whole_is_truncated() {
    let worker = worker(counting(), 0).await;
    let transport = caller();
    let mut stream = transport.open(&address(&worker), request("2")).await.unwrap();
    let received = Received::read(&mut stream).await;
    assert_eq!(received.items, ["0", "1"]);
    assert!(matches!(received.outcome, Outcome::Truncated { received: 2 }));
}

#[tokio::test]
async fn what_follows_the_end_is_a_violation() {
    let worker = worker(counting(), 2).await;
    let transport = caller();
    let mut stream = transport.open(&address(&worker), request("1")).await.unwrap();
    let received = Received::read(&mut stream).await;
    assert_eq!(received.items, ["0"]);
    assert_eq!(received.failed().code(), Code::Violation);
}

#[tokio::test]
async fn what_a_peer_cannot_be_told_is_not_sent() {
    let transport = caller();
    let mut request = request("1");
    request.headers.insert("unspeakable", "x").unwrap();
    // Nobody listens there, which would be another error.
    let nowhere = Address::new("made-up-tcp", "127.0.0.1:1/1/a/b/c").unwrap();
    let error = transport.open(&nowhere, request).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::NoTransport, Executed::No));
    assert_eq!(transport.open_streams(), 0);
}

#[tokio::test]
async fn last_frames_wait_for_their_reader_and_a_shutdown_cuts_them() {
    for is_read in [true, false] {
        let (reporter, mut ended) = reports();
        let handler = spawned(move |mut call: Call| {
            let reporter = reporter.clone();
            async move {
                let item = Bytes::from(vec![b'x'; 10_000]);
                // Until nothing more fits on the way to a caller that does not read.
                while call.sink.try_send(item.clone()).is_ok() {}
                let sent = call.sink.sent();
                call.sink.complete();
                reporter.tell(sent);
            }
        });
        let worker = worker(handler, 1).await;
        let transport = caller();
        let mut stream = transport.open(&address(&worker), request("1")).await.unwrap();
        let sent = ended.next("the end of the handler").await;
        assert_eq!(worker.split.pending(), 1, "the last frame waits");
        if is_read {
            let items = Received::read(&mut stream).await.complete();
            assert_eq!(items.len() as u64, sent);
            until("the end of its task", || worker.split.pending() == 0).await;
        } else {
            let cut = soon("the shutdown", worker.split.shutdown(Duration::ZERO)).await;
            assert_eq!((cut.cut_streams, cut.cut_tasks), (1, 0));
            let received = Received::read(&mut stream).await;
            assert_eq!(received.outcome.as_str(), "cancelled", "{:?}", received.error);
        }
    }
}
