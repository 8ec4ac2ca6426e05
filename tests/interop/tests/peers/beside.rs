//! What travels beside a request: its id, its metadata, and the trace that it belongs to.

use serde_json::{Value, json};
use sinew::{Context, Headers, StreamId};

use crate::{
    ours,
    place::{Backend, Codec, Place, Plane},
    stock,
};

const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

async fn from_a_stock_client(plane: Plane) {
    let place = Place::new(Backend::File, plane);
    let mut worker = ours::worker(&place, Codec::Msgpack).await;
    let mut client = stock::Client::start_with_log(&place, 1).await;
    let request = json!({ "items": 1 });
    let metadata = json!({ "tenant": "blue" });
    client.begin(json!({ "request": request, "request_id": ID, "metadata": metadata })).await;
    // With a log a stock client has spans, and sends the one that the request is routed in.
    let span = client.log("route request completed").await;
    let start = worker.line(|line| line["event"] == "start").await;
    assert_eq!(start["request"], ID.replace('-', ""));
    let headers = &start["headers"];
    assert_eq!((&headers["request-id"], &headers["tenant"]), (&json!(ID), &json!("blue")));
    assert_eq!(headers["content-type"], "application/msgpack");
    let text = |name: &str| span[name].as_str().unwrap();
    assert_eq!(headers["traceparent"], format!("00-{}-{}-01", text("trace_id"), text("span_id")));
    assert_eq!(worker.line(|line| line["event"] == "end").await["outcome"], "complete");
}

async fn from_a_sinew_caller(plane: Plane) {
    let place = Place::new(Backend::File, plane);
    let mut worker = stock::worker_with_log(&place, Codec::Msgpack).await;
    let caller = ours::Caller::start(&place, 1).await;
    let mut headers = Headers::new();
    for (name, value) in [
        ("traceparent", &*format!("00-{TRACE}-{SPAN}-01")),
        ("tracestate", "vendor=1"),
        ("request-id", "from-outside"),
        ("tenant", "blue"),
    ] {
        headers.insert(name, value).unwrap();
    }
    let id = StreamId(u128::from_str_radix(&ID.replace('-', ""), 16).unwrap());
    let context = Context::builder().id(id).headers(headers).build();
    let ended = caller.call_in(context, json!({ "items": 1 })).await.unwrap();
    assert_eq!(ended.items.len(), 1);

    let is_log = |line: &Value| line["message"] == "request received";
    let is_told = |line: &Value| line["event"] == "start" || is_log(line);
    // One on its standard output and one in its log: either may come first.
    let lines = [worker.line(is_told).await, worker.line(is_told).await];
    let (logs, starts): (Vec<_>, Vec<_>) = lines.into_iter().partition(is_log);
    let (log, start) = (&logs[0], &starts[0]);
    assert_eq!((&start["request"], &log["request_id"]), (&json!(ID), &json!(ID)));
    assert_eq!(start["metadata"], json!({ "tenant": "blue" }));
    // The parent is the attempt of the Sinew router, which is a span of the caller's trace.
    let parent = log["parent_id"].as_str().unwrap();
    assert!(parent.len() == 16 && parent != SPAN, "{log}");
    assert_eq!((&log["trace_id"], &log["trace_flags"]), (&json!(TRACE), &json!("01")));
    assert_eq!(log["tracestate"], "vendor=1");
    assert_eq!(log["x_request_id"], "from-outside");
    caller.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sinew_worker_sees_the_id_the_metadata_and_the_trace_of_a_stock_client() {
    from_a_stock_client(Plane::Tcp).await;
    from_a_stock_client(Plane::Nats).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_worker_sees_the_id_the_metadata_and_the_trace_of_a_sinew_caller() {
    from_a_sinew_caller(Plane::Tcp).await;
    from_a_sinew_caller(Plane::Nats).await;
}
