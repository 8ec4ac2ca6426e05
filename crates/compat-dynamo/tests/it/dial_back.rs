//! Where a worker dials back to, and where it does not although a request says so.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use sinew_plane::{
    Code, DuplexTransport, Executed, IncomingRequest, InstanceId, OutgoingRequest, ResponseSink,
};
use sinew_plane_call_home::{ListenConfig, ListenHost, TcpStreamServer, TcpStreamServerConfig};
use sinew_split::SplitServerConfig;

use crate::{
    another,
    dynamo::{Caller, Line, request_frame, two_part},
    fixture::{Worker, soon, transport},
    server_config,
};

const PATH: &str = "1f/ns1/backend/generate";

/// An address without a host: nothing may be sent there, so a test does not miss an answer from it.
const ELSEWHERE: &str = "203.0.113.9:80";

/// A worker that counts what runs.
async fn counting() -> (Worker, Arc<AtomicUsize>) {
    counting_with(server_config()).await
}

async fn counting_with(config: SplitServerConfig) -> (Worker, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let handler = move |_: IncomingRequest<'_>, sink: ResponseSink| {
        counted.fetch_add(1, Ordering::Relaxed);
        sink.complete();
    };
    (Worker::with(Arc::new(handler), config, true).await, runs)
}

/// The control message of a Sinew caller that confirms each response before its request runs.
fn confirming(control: &str) -> String {
    control.replace(
        r#"\"stream_type\":\"response\""#,
        r#"\"stream_type\":\"response\",\"sinew\":{\"v\":2,\"process\":\"1f\"}"#,
    )
}

/// Waits until every accepted request is with its handler or given up.
async fn settled(worker: &Worker) {
    soon("the requests to be over", async {
        while worker.split.pending() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn answer(worker: &Worker, control: &str, body: &[u8]) -> String {
    let mut line = Line::dial(&worker.host()).await;
    line.write(&request_frame(PATH, "{}", &two_part(control.as_bytes(), body))).await;
    line.ack().await
}

/// The address that a control message names.
fn address_of(control: &str) -> String {
    let (_, rest) = control.split_once(r#"address\":\""#).unwrap();
    rest.split_once('\\').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_request_that_names_another_host_is_refused_and_nobody_is_dialled() {
    let (worker, runs) = counting().await;
    let caller = Caller::new().await;
    let good = caller.control("json");
    for elsewhere in [ELSEWHERE, "169.254.169.254:80", "[2001:db8::9]:80", "192.0.2.255:80"] {
        let control = good.replace(&address_of(&good), elsewhere);
        let answer = answer(&worker, &control, b"1").await;
        let refused = format!("Server unavailable: response address \"{elsewhere}\" refused: ");
        assert!(answer.starts_with(&refused), "{answer}");
        // What to do about it.
        for way in ["--allow-call-home", "SINEW_ALLOW_CALL_HOME", "allowed_networks"] {
            assert!(answer.contains(way), "{answer}");
        }
        assert_eq!(worker.split.pending(), 0);
    }
    assert_eq!(runs.load(Ordering::Relaxed), 0);
    assert_eq!(answer(&worker, &good, b"1").await, "");
    caller.worker().await;
}

/// Also where only the items of a request are to be fetched from elsewhere.
#[tokio::test]
async fn a_request_stream_elsewhere_is_refused_too() {
    use std::time::Duration;

    use sinew_plane::RequestStream;

    let (worker, runs) = counting().await;
    let handler = |_: IncomingRequest<'_>, _: RequestStream, _: ResponseSink| panic!("it ran");
    let name = "ns1/backend/generate".parse().unwrap();
    let _served = worker.split.serve_bidirectional(name, worker.back.clone(), Arc::new(handler));
    let caller = Caller::new().await;
    let good = caller.control("json").replace("single_in", "many_in");
    let info = serde_json::from_str::<serde_json::Value>(&good).unwrap()["connection_info"].clone();
    let items = info
        .to_string()
        .replace(&address_of(&good), ELSEWHERE)
        .replace(r#"stream_type\":\"response"#, r#"stream_type\":\"request"#);
    let control = good.replacen('{', &format!(r#"{{"request_stream_connection_info":{items},"#), 1);
    let answer = answer(&worker, &control, b"").await;
    assert!(answer.starts_with("Server unavailable: response address"), "{answer}");
    assert_eq!((worker.split.pending(), runs.load(Ordering::Relaxed)), (0, 0));
    worker.split.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_caller_that_goes_by_a_name_is_dialled_at_its_address_or_refused() {
    let (worker, runs) = counting().await;
    let caller = Caller::new().await;
    let good = caller.control("json");
    let address = address_of(&good);
    let port = address.rsplit_once(':').unwrap().1;
    let named = good.replace(&address, &format!("localhost:{port}"));
    // The first time it is looked up, then known.
    for number in 0..2 {
        assert_eq!(answer(&worker, &another(&named, number), b"1").await, "");
        let mut back = caller.worker().await;
        assert_eq!(back.header().await, r#"{"error":null}"#);
    }
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    // Reserved for names that do not exist.
    let nobody = good.replace(&address, "nobody.invalid:80");
    let refused = answer(&worker, &nobody, b"1").await;
    assert!(refused.starts_with("Server unavailable: response address"), "{refused}");
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

/// A Sinew caller hears it as an error of its own kind.
#[tokio::test]
async fn a_caller_that_advertises_another_host_is_told_what_to_do() {
    let (worker, runs) = counting().await;
    let listen = ListenConfig { advertise: Some(ELSEWHERE.to_owned()), ..Default::default() };
    let host = ListenHost::Ip([127, 0, 0, 1].into());
    let config = TcpStreamServerConfig { listen, host, ..TcpStreamServerConfig::default() };
    let responses = Arc::new(TcpStreamServer::bind(config.checked().unwrap()).unwrap());
    let caller = transport(Arc::clone(&responses));
    let name = "ns1/backend/generate".parse().unwrap();
    let request = OutgoingRequest::new(name, InstanceId(0x1f), Bytes::from("hi"));
    let error =
        soon("the refusal", caller.open(&worker.address(), request)).await.map(drop).unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::NoTransport, Executed::No));
    assert!(error.message().contains(ELSEWHERE), "{error}");
    assert!(error.message().contains("--allow-call-home"), "{error}");
    assert_eq!((runs.load(Ordering::Relaxed), responses.streams()), (0, 0));
}

/// The handler waits for the word of a Sinew caller, which may have gone elsewhere meanwhile.
#[tokio::test]
async fn what_its_caller_does_not_wait_for_any_more_does_not_run() {
    let (worker, runs) = counting().await;
    let caller = Caller::new().await;
    let good = confirming(&caller.control("json"));
    for (word, ran) in [("\"kill\"", 0), ("\"ready\"", 1)] {
        assert_eq!(answer(&worker, &another(&good, ran), b"1").await, "");
        let mut back = caller.connection().await;
        assert!(back.header().await.ends_with(r#","confirm":true}"#));
        assert_eq!(runs.load(Ordering::Relaxed), 0, "not before the word");
        back.write(&two_part(word.as_bytes(), b"")).await;
        if ran == 0 {
            back.end().await;
        } else {
            assert_eq!(back.header().await, r#"{"error":null}"#);
        }
        settled(&worker).await;
        assert_eq!(runs.load(Ordering::Relaxed), ran);
    }
}

/// I7: a broker or a proxy may deliver a request twice. Both deliveries are acknowledged alike.
#[tokio::test]
async fn a_request_that_comes_twice_runs_once() {
    let (worker, runs) = counting().await;
    let caller = Caller::new().await;
    let control = caller.control("json");
    for number in 0..2 {
        let request = another(&control, number);
        for _ in 0..2 {
            assert_eq!(answer(&worker, &request, b"1").await, "");
        }
        settled(&worker).await;
        assert_eq!(runs.load(Ordering::Relaxed), number + 1);
        // On one connection as on two.
        let frame = request_frame(PATH, "{}", &two_part(request.as_bytes(), b"1"));
        let mut line = Line::dial(&worker.host()).await;
        line.write(&frame.repeat(2)).await;
        for _ in 0..2 {
            assert_eq!(line.ack().await, "");
        }
        settled(&worker).await;
        assert_eq!(runs.load(Ordering::Relaxed), number + 1);
        let mut back = caller.worker().await;
        assert_eq!(back.header().await, r#"{"error":null}"#);
    }
}

/// A caller that never confirms keeps its requests waiting, each in a place.
#[tokio::test]
async fn one_caller_cannot_take_the_places_of_the_others() {
    let config = SplitServerConfig { max_pending: 8, ..server_config() };
    let (worker, runs) = counting_with(config).await;
    let (silent, honest) = (Caller::new().await, Caller::new().await);
    let control = confirming(&silent.control("json"));
    for number in 0..4 {
        assert_eq!(answer(&worker, &another(&control, number), b"1").await, "");
    }
    let refused = answer(&worker, &another(&control, 4), b"1").await;
    assert_eq!(refused, "Server overloaded: worker at capacity");
    // More than its share has room for, one after another.
    for number in 5..15 {
        assert_eq!(answer(&worker, &another(&honest.control("json"), number), b"1").await, "");
        let mut back = honest.worker().await;
        assert_eq!(back.header().await, r#"{"error":null}"#);
    }
    assert_eq!((worker.split.pending(), runs.load(Ordering::Relaxed)), (4, 10));
    // A place is free again as soon as the caller has said a word.
    let mut back = silent.connection().await;
    assert!(back.header().await.ends_with(r#","confirm":true}"#));
    back.write(&two_part(b"\"ready\"", b"")).await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    assert_eq!(answer(&worker, &another(&control, 15), b"1").await, "");
}
