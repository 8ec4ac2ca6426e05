//! Requests that a worker does not take, and its own end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use sinew_compat_dynamo::{
    DIAL_BACK_FAILURES, EndpointDeclaration, SplitServer, SplitServerConfig,
};
use sinew_plane::{
    BoxFuture, Budget, BudgetUse, Code, Context, DuplexServer, Error, Executed, Headers,
    IncomingRequest, InstanceId, Origin, PlaneRequest, RequestHandler, RequestPlaneHandler,
    ResponsePlaneClient, ResponseSink, Shutdown, TransportId,
};
use sinew_testkit::handlers::echo;
use tokio::sync::Notify;

use crate::{
    dynamo::{Caller, Line, request_frame, two_part},
    fixture::{Worker, another, soon},
};

const PATH: &str = "1f/ns1/backend/generate";

/// Serves one endpoint, or refuses even that.
struct Picky {
    refusal: Option<Error>,
    runs: AtomicUsize,
}

impl Picky {
    fn new(refusal: Option<Error>) -> Arc<Self> {
        Arc::new(Self { refusal, runs: AtomicUsize::new(0) })
    }
}

impl RequestHandler for Picky {
    fn handle(&self, _: IncomingRequest<'_>, sink: ResponseSink) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        sink.complete();
    }

    fn admits(&self, endpoint: &str, instance: InstanceId) -> Result<(), Error> {
        if (endpoint, instance) != ("ns1/backend/generate", InstanceId(0x1f)) {
            return Err(Error::new(Code::UnknownEndpoint, "somebody else's"));
        }
        self.refusal.clone().map_or(Ok(()), Err)
    }
}

async fn answer(worker: &Worker, path: &str, payload: &[u8]) -> String {
    let mut line = Line::dial(&worker.host()).await;
    line.write(&request_frame(path, "{}", payload)).await;
    line.ack().await
}

/// Accepted, it would wait for a response that no worker can bring.
#[tokio::test]
async fn a_caller_that_can_never_be_dialled_is_refused_in_the_acknowledgement() {
    let handler = Picky::new(None);
    let worker = Worker::new(Arc::clone(&handler) as _).await;
    let caller = Caller::new().await;
    let good = caller.control("json");
    let address = good.split(r#"address\":\""#).nth(1).unwrap().split('\\').next().unwrap();
    for (from, to) in [
        ("tcp_server", "quic-response"),
        (address, "169.254.169.254:80"),
        (address, "0.0.0.0:80"),
        (address, "127.0.0.1:0"),
        (r#"stream_type\":\"response"#, r#"stream_type\":\"request"#),
        (r#"{\"address"#, r#"{\"elsewhere"#),
    ] {
        let control = good.replacen(from, to, 1);
        assert_ne!(control, good, "{from}");
        let answer = answer(&worker, PATH, &two_part(control.as_bytes(), b"1")).await;
        assert!(answer.starts_with("Server unavailable: "), "{to}: {answer:?}");
    }
    assert_eq!(handler.runs.load(Ordering::Relaxed), 0);
    assert_eq!(answer(&worker, PATH, &two_part(good.as_bytes(), b"1")).await, "");
    caller.worker().await;
}

#[tokio::test]
async fn an_unknown_endpoint_is_refused_in_the_words_of_dynamo() {
    let handler = Picky::new(None);
    let worker = Worker::new(Arc::clone(&handler) as _).await;
    let caller = Caller::new().await;
    let payload = two_part(caller.control("json").as_bytes(), b"1");
    for path in [
        "1e/ns1/backend/generate",
        "1f/ns1/backend/other",
        "1f/ns1/backend",
        "no path at all",
        "1f/ns1/back%2Fend/generate",
    ] {
        let answer = answer(&worker, path, &payload).await;
        assert_eq!(answer, format!("Server unavailable: unknown endpoint {path}"));
    }
    assert_eq!(answer(&worker, PATH, &payload).await, "");
    let mut back = caller.worker().await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    assert_eq!(handler.runs.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_the_handler_would_refuse_is_refused_in_the_acknowledgement() {
    for (refusal, answered) in [
        (
            Error::new(Code::Overloaded, "worker at capacity"),
            "Server overloaded: worker at capacity",
        ),
        (Error::draining("going away"), "Server unavailable: going away"),
    ] {
        let handler = Picky::new(Some(refusal));
        let worker = Worker::new(Arc::clone(&handler) as _).await;
        let caller = Caller::new().await;
        let payload = two_part(caller.control("json").as_bytes(), b"1");
        assert_eq!(answer(&worker, PATH, &payload).await, answered);
        assert_eq!(handler.runs.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn malformed_requests_are_refused_with_an_answer_that_callers_know() {
    let worker = Worker::new(echo()).await;
    let caller = Caller::new().await;
    let control = caller.control("json");
    for payload in [
        Vec::new(),
        b"nonsense".to_vec(),
        two_part(b"{}", b"1"),
        two_part(b"", b"1"),
        two_part(control.replace("json", "cbor").as_bytes(), b"1"),
        two_part(&vec![b' '; 200 << 10], b"1"),
        two_part(control.replacen('{', r#"{"sinew":{"v":1,"instance":"x"},"#, 1).as_bytes(), b"1"),
        two_part(
            control.replacen('{', r#"{"sinew":{"v":1,"headers":[["A","b"]]},"#, 1).as_bytes(),
            b"",
        ),
    ] {
        let answer = answer(&worker, PATH, &payload).await;
        assert!(answer.starts_with("Server unavailable: malformed request"), "{answer}");
        assert!(answer.len() < 400, "{answer}");
    }
    assert_eq!(worker.split.pending(), 0);
}

#[tokio::test]
async fn a_shape_that_no_handler_takes_is_told_on_the_response_plane() {
    let handler = Picky::new(None);
    let worker = Worker::new(Arc::clone(&handler) as _).await;
    let caller = Caller::new().await;
    let control = caller.control("json");
    let many = control.replace("single_in", "many_in");
    for payload in [
        two_part(another(&many, 1).as_bytes(), b""),
        two_part(another(&many, 2).as_bytes(), b"1"),
        two_part(another(&control, 3).as_bytes(), b""),
    ] {
        assert_eq!(answer(&worker, PATH, &payload).await, "");
        let mut back = caller.worker().await;
        let prologue: serde_json::Value = serde_json::from_str(&back.header().await).unwrap();
        // The one class for which a router of Dynamo does not blame the worker.
        assert_eq!(prologue["typed_error"]["class"], "InvalidRequest");
        assert_eq!(back.header().await, "\"sentinel\"");
    }
    assert_eq!(handler.runs.load(Ordering::Relaxed), 0);
}

/// A way back that stays closed until it is opened.
#[derive(Default)]
struct Gate {
    opened: Notify,
    dials: AtomicUsize,
}

impl ResponsePlaneClient for Gate {
    fn connect<'a>(
        &'a self,
        _: &'a str,
        _: Origin,
        _: Context,
    ) -> BoxFuture<'a, Result<ResponseSink, Error>> {
        Box::pin(async {
            self.dials.fetch_add(1, Ordering::Relaxed);
            self.opened.notified().await;
            Err(Error::new(Code::ConnectFailed, "nobody there"))
        })
    }
}

async fn payload() -> Bytes {
    payloads(1).await.remove(0)
}

/// So many different requests.
async fn payloads(count: usize) -> Vec<Bytes> {
    let control = Caller::new().await.control("json");
    (0..count).map(|number| two_part(another(&control, number).as_bytes(), b"1").into()).collect()
}

fn accept(server: &SplitServer, target: &str, payload: &Bytes, plane: &str) -> Result<(), Error> {
    server.accept(PlaneRequest {
        target,
        headers: Headers::new(),
        payload: payload.clone(),
        transport: &TransportId::new(plane),
        origin: Origin::SameHost,
    })
}

/// Waits until tasks of the server have done what they can.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    soon(what, waiting).await;
}

#[tokio::test]
async fn requests_whose_caller_is_not_dialled_yet_are_bounded_by_number_and_by_bytes() {
    let payloads = payloads(4).await;
    for config in [
        SplitServerConfig { max_pending: 3, ..SplitServerConfig::default() },
        SplitServerConfig { max_pending_bytes: 4 << 10, ..SplitServerConfig::default() },
    ] {
        let gate = Arc::new(Gate::default());
        let server = SplitServer::new(config, Arc::clone(&gate) as _, Picky::new(None));
        let (last, others) = payloads.split_last().unwrap();
        for payload in others {
            accept(&server, PATH, payload, "tcp").unwrap();
        }
        let refusal = accept(&server, PATH, last, "tcp").unwrap_err();
        assert_eq!((refusal.code(), refusal.message()), (Code::Overloaded, "worker at capacity"));
        until("the dials", || gate.dials.load(Ordering::Relaxed) == 3).await;
        // A dial that fails makes room as one that succeeds does.
        gate.opened.notify_one();
        until("a place", || server.pending() == 2).await;
        // What was refused is not known as one that was taken.
        accept(&server, PATH, last, "tcp").unwrap();
    }
}

/// Each costs memory for as long as it waits, beside its payload.
#[tokio::test]
async fn requests_whose_caller_is_not_dialled_yet_are_charged_to_the_memory_budget() {
    let budget = Budget::new(4 << 20);
    let config =
        SplitServerConfig { budget: Some(Arc::clone(&budget)), ..SplitServerConfig::default() };
    let gate = Arc::new(Gate::default());
    let server = SplitServer::new(config, Arc::clone(&gate) as _, Picky::new(None));
    let payloads = payloads(129).await;
    let (last, others) = payloads.split_last().unwrap();
    for payload in others {
        accept(&server, PATH, payload, "tcp").unwrap();
    }
    // A quarter of the budget, as one connection has it.
    assert_eq!(budget.used(BudgetUse::Waiting), budget.share());
    let refusal = accept(&server, PATH, last, "tcp").unwrap_err();
    assert_eq!((refusal.code(), refusal.executed()), (Code::Overloaded, Executed::No));
    assert!(refusal.message().contains("memory_budget"), "{refusal}");
    until("the dials", || gate.dials.load(Ordering::Relaxed) == others.len()).await;
    gate.opened.notify_one();
    until("a place", || server.pending() == others.len() - 1).await;
    accept(&server, PATH, last, "tcp").unwrap();
    server.shutdown(Duration::ZERO).await;
    assert_eq!(budget.total(), 0);
}

#[tokio::test]
async fn a_draining_server_refuses_and_its_shutdown_cuts_what_outlives_the_grace() {
    let gate = Arc::new(Gate::default());
    let handler = Picky::new(None);
    let server =
        SplitServer::new(SplitServerConfig::default(), Arc::clone(&gate) as _, handler.clone());
    let payload = payload().await;
    accept(&server, PATH, &payload, "tcp").unwrap();
    server.drain();
    let refusal = accept(&server, PATH, &payload, "tcp").unwrap_err();
    assert_eq!(refusal.code(), Code::Draining);
    assert!(refusal.is_safe_to_resend());
    let cut = soon("the shutdown", server.shutdown(Duration::from_millis(20))).await;
    assert_eq!(cut, Shutdown { cut_streams: 1, cut_tasks: 0 });
    assert_eq!((server.pending(), handler.runs.load(Ordering::Relaxed)), (0, 0));
    assert_eq!(soon("another", server.shutdown(Duration::ZERO)).await, Shutdown::default());
}

#[tokio::test]
async fn a_caller_that_cannot_be_dialled_runs_nothing() {
    let handler = Picky::new(None);
    let worker = Worker::new(Arc::clone(&handler) as _).await;
    let caller = Caller::new().await;
    let payload = two_part(caller.control("json").as_bytes(), b"1");
    // No caller listens there any more.
    drop(caller);
    assert_eq!(answer(&worker, PATH, &payload).await, "");
    until("the dial to fail", || worker.split.pending() == 0).await;
    assert_eq!(handler.runs.load(Ordering::Relaxed), 0);
    worker.tcp.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_refusal_over_nats_is_in_the_acknowledgement_alone() {
    let subject = "ns1_backend.generate-1f";
    let gate = Arc::new(Gate::default());
    let handler = Picky::new(Some(Error::new(Code::Overloaded, "worker at capacity")));
    let server =
        SplitServer::new(SplitServerConfig::default(), Arc::clone(&gate) as _, handler.clone());
    let caller = Caller::new().await;
    let stock: Bytes = two_part(caller.control("json").as_bytes(), b"1").into();
    let control = caller.control("json").replacen('{', r#"{"sinew":{"v":1},"#, 1);
    let ours: Bytes = two_part(control.as_bytes(), b"1").into();

    for payload in [&stock, &ours] {
        let unknown = accept(&server, subject, payload, "nats").unwrap_err();
        assert_eq!(unknown.code(), Code::UnknownEndpoint);
        assert_eq!(unknown.message(), format!("unknown endpoint {subject}"));
    }
    let mut declaration =
        EndpointDeclaration::new("ns1/backend/generate".parse().unwrap(), InstanceId(0x1f));
    declaration.subject = Some(subject.to_owned());
    let _declared = server.declare(declaration);
    for payload in [&stock, &ours] {
        let full = accept(&server, subject, payload, "nats").unwrap_err();
        assert_eq!(full.code(), Code::Overloaded);
    }
    assert_eq!((server.pending(), gate.dials.load(Ordering::Relaxed)), (0, 0));
    assert_eq!(handler.runs.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn callers_that_wait_to_be_told_of_a_shape_count_as_pending_ones() {
    let gate = Arc::new(Gate::default());
    let config = SplitServerConfig { max_pending: 2, ..SplitServerConfig::default() };
    let server = SplitServer::new(config, Arc::clone(&gate) as _, Picky::new(None));
    let control = Caller::new().await.control("json").replace("single_in", "many_in");
    let payload = |number| -> Bytes { two_part(another(&control, number).as_bytes(), b"1").into() };
    for (number, plane) in ["tcp", "nats"].into_iter().enumerate() {
        accept(&server, PATH, &payload(number), plane).unwrap();
    }
    let payload = payload(2);
    for _ in 0..50 {
        // Not accepted either: its caller would wait for a word that does not come.
        let refusal = accept(&server, PATH, &payload, "nats").unwrap_err();
        assert_eq!(refusal.code(), Code::Overloaded);
    }
    assert_eq!(server.pending(), 2);
}

#[tokio::test]
async fn failed_dials_are_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let gate = Arc::new(Gate::default());
    let server = metrics::with_local_recorder(&recorder, || {
        SplitServer::new(SplitServerConfig::default(), Arc::clone(&gate) as _, Picky::new(None))
    });
    accept(&server, PATH, &payload().await, "tcp").unwrap();
    gate.opened.notify_one();
    until("the dial to fail", || server.pending() == 0).await;
    let text = recorder.handle().render();
    assert!(text.contains(&format!("{DIAL_BACK_FAILURES} 1\n")), "{text}");
}
