//! What a request carries arrives as it was sent.

use sinew_plane::{Context, EndpointName, Headers, InstanceId, OutgoingRequest, StreamId};

use crate::{Call, Harness, Reports, handlers::spawned, reports, request};

/// Completes every request and hands over what came.
fn reporting() -> (std::sync::Arc<dyn sinew_plane::RequestHandler>, Reports<Seen>) {
    let (reporter, seen) = reports();
    let handler = spawned(move |call| {
        let reporter = reporter.clone();
        async move {
            let Call { endpoint, instance, body, context, transport, attempt, sink } = call;
            let transport = transport.as_str().to_owned();
            let seen = Seen { endpoint, instance, body, context, transport, attempt };
            reporter.tell(seen);
            sink.complete();
        }
    });
    (handler, seen)
}

struct Seen {
    endpoint: String,
    instance: InstanceId,
    body: bytes::Bytes,
    context: Context,
    transport: String,
    attempt: u8,
}

fn headers<const N: usize>(entries: [(&str, &str); N]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in entries {
        if let Err(error) = headers.insert(name, value) {
            panic!("{name}: {error}");
        }
    }
    headers
}

/// Endpoint, instance, body, headers, id, attempt; and the transport's own name.
pub async fn everything_reaches_the_handler(harness: &dyn Harness) {
    let (handler, mut seen) = reporting();
    let served = harness.serve(handler).await;
    let Ok(endpoint) = EndpointName::new("n-1", "c_2", "e.3") else {
        panic!("n-1/c_2/e.3 is a name")
    };
    for (instance, attempt) in [(InstanceId(0), 0), (InstanceId(u64::MAX), 1), (InstanceId(9), 255)]
    {
        let context = Context::builder().id(StreamId::random()).build();
        let headers = headers([
            ("content-type", "application/json"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("x-text", "gr\u{fc}n \u{1f7e2}"),
            ("x-empty", ""),
        ]);
        let mut request = OutgoingRequest::new(endpoint.clone(), instance, "the body".into())
            .with_context(context.clone())
            .with_headers(headers.clone());
        request.attempt = attempt;
        served.call(request).await.complete();

        let got = seen.next("what came").await;
        assert_eq!(got.endpoint, "n-1/c_2/e.3");
        assert_eq!((got.instance, got.attempt), (instance, attempt));
        assert_eq!(got.body, "the body");
        assert_eq!(got.context.id(), context.id());
        assert_eq!(got.context.headers(), &headers);
        assert_eq!(got.transport, served.client.id().as_str());
        assert!(!got.context.is_stopped(), "nobody stopped it");
    }
}

/// A request may have none.
pub async fn headers_are_optional(harness: &dyn Harness) {
    let (handler, mut seen) = reporting();
    let served = harness.serve(handler).await;
    served.call(request("")).await.complete();
    let got = seen.next("what came").await;
    assert!(got.context.headers().is_empty() && got.body.is_empty());
}

/// As many and as large as `Headers` takes: 64 entries, over 60,000 bytes.
pub async fn large_headers_arrive(harness: &dyn Harness) {
    let (handler, mut seen) = reporting();
    let served = harness.serve(handler).await;
    let mut headers = Headers::new();
    for number in 0..64 {
        if let Err(error) = headers.insert(&format!("h-{number}"), &"v".repeat(960 + number)) {
            panic!("header {number}: {error}");
        }
    }
    assert!(headers.as_block().len() > 60_000);
    served.call(request("").with_headers(headers.clone())).await.complete();
    assert_eq!(seen.next("what came").await.context.headers(), &headers);
}
