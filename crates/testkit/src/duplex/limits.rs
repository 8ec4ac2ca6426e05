//! The limit on messages: what is at it passes, what is over it is refused alone.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::StreamExt;
use sinew_plane::{Code, Error};
use tokio::sync::Notify;

use crate::{
    Harness, Received, Served,
    handlers::spawned,
    payload::{assert_same, patterned},
    request, within,
};

fn limit(served: &Served) -> usize {
    let limit = served.client.capabilities().max_message_bytes;
    assert!(limit >= 5 << 20, "the suite needs a limit of at least 5 MiB, this is {limit}");
    limit
}

/// Answers with the length of the body.
fn measuring(runs: &Arc<AtomicUsize>) -> Arc<dyn sinew_plane::RequestHandler> {
    let runs = Arc::clone(runs);
    spawned(move |mut call| {
        runs.fetch_add(1, Ordering::Relaxed);
        async move {
            if call.sink.send(call.body.len().to_string().into()).await.is_ok() {
                call.sink.complete();
            }
        }
    })
}

/// A body as large as the capabilities say.
pub async fn a_body_at_the_limit_passes(harness: &dyn Harness) {
    let served = harness.serve(measuring(&Arc::default())).await;
    let limit = limit(&served);
    let items = served.call(request(vec![7; limit])).await.complete();
    assert_eq!(items, [limit.to_string()]);
}

/// One byte more is refused, runs nothing, and the next request is served.
pub async fn a_body_over_the_limit_is_refused_and_nothing_else(harness: &dyn Harness) {
    let runs = Arc::default();
    let served = harness.serve(measuring(&runs)).await;
    let limit = limit(&served);
    for _ in 0..2 {
        let error = served.refusal(request(vec![7; limit + 1])).await;
        assert_eq!(error.code(), Code::TooLarge, "{error:?}");
        assert!(!error.is_safe_to_resend(), "it would only fail the same way again");
        assert_eq!(served.call(request("abc")).await.complete(), ["3"]);
    }
    assert_eq!(runs.load(Ordering::Relaxed), 2, "a refused body ran a handler");
}

/// An item as large as the capabilities say.
pub async fn an_item_at_the_limit_passes(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        let item = patterned(call.number() as usize, 3);
        match call.sink.send(item).await {
            Ok(()) => call.sink.complete(),
            Err(error) => call.sink.fail(error),
        }
    });
    let served = harness.serve(handler).await;
    let limit = limit(&served);
    let items = served.call(request(limit.to_string())).await.complete();
    assert_eq!(items.len(), 1);
    assert_same(&items[0], &patterned(limit, 3));
}

/// One byte more is refused to the handler, which may go on in the same stream or fail it; a
/// stream beside it runs on.
pub async fn an_item_over_the_limit_is_refused_and_nothing_else(harness: &dyn Harness) {
    let gate = Arc::new(Notify::new());
    let handler_gate = Arc::clone(&gate);
    let handler = spawned(move |mut call| {
        let gate = Arc::clone(&handler_gate);
        async move {
            let sent = match &call.body[..] {
                b"neighbour" => {
                    let first = call.sink.send("before".into()).await;
                    gate.notified().await;
                    first
                }
                _ => call.sink.send(vec![7; call.number() as usize].into()).await,
            };
            let error = sent.err().unwrap_or_else(|| Error::handler("the item was taken"));
            match call.sink.send("after".into()).await {
                Ok(()) if call.body == "neighbour" => call.sink.complete(),
                _ => call.sink.fail(error),
            }
        }
    });
    let served = harness.serve(handler).await;
    let mut neighbour = served.open(request("neighbour")).await;
    let first = within("the neighbour's item", neighbour.next()).await;
    assert_eq!(first.map(Result::ok), Some(Some("before".into())));

    let received = served.call(request((limit(&served) + 1).to_string())).await;
    assert_eq!(received.failed().code(), Code::TooLarge, "{:?}", received.error);
    assert_eq!(received.items, ["after"], "the stream itself is not hurt");

    gate.notify_one();
    assert_eq!(Received::read(&mut neighbour).await.complete(), ["after"]);
}
