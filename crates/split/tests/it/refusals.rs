//! Requests that a worker does not take, and its own end, without any plane.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::value::RawValue;
use sinew_dynamo_wire::{
    CONTROL_MESSAGE_MAX_BYTES, PayloadCodec, RequestControlMessage, RequestType, ResponseType,
    SINEW_CONTROL_VERSION, SinewControl,
};
use sinew_plane::{
    BoxFuture, Budget, BudgetUse, Code, Context, Error, Executed, Headers, IncomingRequest,
    InstanceId, Origin, PeerFacts, Permit, Place, PlaneRequest, RequestHandler,
    RequestPlaneHandler, ResponsePlaneClient, ResponseSink, Shutdown, TransportId,
};
use sinew_split::{DIAL_BACK_FAILURES, EndpointDeclaration, SplitServer, SplitServerConfig};
use tokio::sync::Notify;

use crate::fixture::{Picky, soon, until};

const PATH: &str = "1f/ns1/backend/generate";

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

/// The control message of a request of Sinew; each number is another request.
fn control(number: usize) -> RequestControlMessage {
    let info = format!(r#"{{"transport":"test","info":"{number}"}}"#);
    RequestControlMessage {
        id: number.to_string(),
        request_type: RequestType::SingleIn,
        response_type: ResponseType::ManyOut,
        payload_codec: PayloadCodec::Json,
        connection_info: RawValue::from_string(info).unwrap(),
        metadata: Default::default(),
        frontend_send_ts_ns: None,
        request_stream_connection_info: None,
        sinew: Some(SinewControl {
            v: SINEW_CONTROL_VERSION,
            deadline_ms: None,
            attempt: 0,
            instance: None,
            headers: Headers::new(),
        }),
    }
}

fn encoded(control: &RequestControlMessage) -> Bytes {
    control.encode(Some("1".into()), CONTROL_MESSAGE_MAX_BYTES).unwrap()
}

fn payload() -> Bytes {
    encoded(&control(0))
}

/// So many different requests.
fn payloads(count: usize) -> Vec<Bytes> {
    (0..count).map(|number| encoded(&control(number))).collect()
}

/// A request of a caller that is not Sinew's.
fn foreign() -> Bytes {
    encoded(&RequestControlMessage { sinew: None, ..control(0) })
}

fn accept(server: &SplitServer, target: &str, payload: &Bytes, plane: &str) -> Result<(), Error> {
    server.accept(PlaneRequest {
        target,
        headers: Headers::new(),
        payload: payload.clone(),
        transport: &TransportId::new(plane),
        peer: &PeerFacts::same_host(None),
    })
}

#[tokio::test]
async fn requests_whose_caller_is_not_dialled_yet_are_bounded_by_number_and_by_bytes() {
    let payloads = payloads(4);
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
    let payloads = payloads(129);
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
    let payload = payload();
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
async fn a_refusal_over_nats_is_in_the_acknowledgement_alone() {
    let subject = "ns1_backend.generate-1f";
    let gate = Arc::new(Gate::default());
    let handler = Picky::new(Some(Error::new(Code::Overloaded, "worker at capacity")));
    let server =
        SplitServer::new(SplitServerConfig::default(), Arc::clone(&gate) as _, handler.clone());
    let (foreign, ours) = (foreign(), payload());
    for payload in [&foreign, &ours] {
        let unknown = accept(&server, subject, payload, "nats").unwrap_err();
        assert_eq!(unknown.code(), Code::UnknownEndpoint);
        assert_eq!(unknown.message(), format!("unknown endpoint {subject}"));
    }
    let mut declaration =
        EndpointDeclaration::new("ns1/backend/generate".parse().unwrap(), InstanceId(0x1f));
    declaration.subject = Some(subject.to_owned());
    let _declared = server.declare(declaration);
    for payload in [&foreign, &ours] {
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
    let payload = |number| {
        let control = control(number);
        encoded(&RequestControlMessage { request_type: RequestType::ManyIn, ..control })
    };
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
    accept(&server, PATH, &payload(), "tcp").unwrap();
    gate.opened.notify_one();
    until("the dial to fail", || server.pending() == 0).await;
    let text = recorder.handle().render();
    assert!(text.contains(&format!("{DIAL_BACK_FAILURES} 1\n")), "{text}");
}

/// A handler with one place.
#[derive(Default)]
struct OnePlace {
    taken: AtomicBool,
    freed: Notify,
}

struct Reserving(Arc<OnePlace>);

impl RequestHandler for Reserving {
    fn handle(&self, _: IncomingRequest<'_>, sink: ResponseSink) {
        sink.complete();
    }

    fn reserve(&self, _: &str, _: InstanceId) -> Result<Option<Permit>, Error> {
        if self.0.taken.swap(true, Ordering::Relaxed) {
            return Err(Error::new(Code::Overloaded, "the place is taken"));
        }
        Ok(Some(Permit::new(Arc::clone(&self.0) as _)))
    }
}

impl Place for OnePlace {
    fn call(self: Arc<Self>, _: IncomingRequest<'_>, sink: ResponseSink) {
        sink.complete();
    }

    fn release(&self) {
        self.taken.store(false, Ordering::Relaxed);
        self.freed.notify_one();
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_cannot_be_dialled_keeps_its_place_no_longer_than_the_limit() {
    let gate = Arc::new(Gate::default());
    let config = SplitServerConfig::default();
    let (limit, handler) = (config.reach_timeout, Arc::new(OnePlace::default()));
    let server =
        SplitServer::new(config, Arc::clone(&gate) as _, Arc::new(Reserving(Arc::clone(&handler))));
    let payloads = payloads(3);
    let began = tokio::time::Instant::now();
    accept(&server, PATH, &payloads[0], "tcp").unwrap();
    let refusal = accept(&server, PATH, &payloads[1], "tcp").unwrap_err();
    assert_eq!(refusal.code(), Code::Overloaded);
    handler.freed.notified().await;
    assert!(began.elapsed() >= limit && began.elapsed() < limit * 2, "{:?}", began.elapsed());
    accept(&server, PATH, &payloads[2], "tcp").unwrap();
    server.shutdown(Duration::ZERO).await;
}

/// Nothing runs for a caller that nobody speaks with, and another worker may.
#[tokio::test]
async fn a_caller_of_another_system_is_refused_where_nobody_speaks_with_it() {
    let gate = Arc::new(Gate::default());
    let handler = Picky::new(None);
    let config = SplitServerConfig::default();
    let server = SplitServer::new(config, Arc::clone(&gate) as _, handler.clone());
    for plane in ["tcp", "nats"] {
        let refusal = accept(&server, PATH, &foreign(), plane).unwrap_err();
        assert_eq!((refusal.code(), refusal.executed()), (Code::NoTransport, Executed::No));
        assert!(refusal.message().contains("callers of Sinew alone"), "{refusal}");
    }
    assert_eq!((server.pending(), handler.runs.load(Ordering::Relaxed)), (0, 0));
    // The same request from a caller of Sinew is taken.
    accept(&server, PATH, &payload(), "tcp").unwrap();
    assert_eq!((server.pending(), server.has_foreign_callers()), (1, false));
}
