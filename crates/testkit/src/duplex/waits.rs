//! The limits of a call: for its acceptance, its first item, and each further one.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use futures_util::StreamExt;
use sinew_plane::{
    CallLimits, Code, Error, Executed, Outcome, RequestHandler, ResponseSink, clock,
};
use tokio::sync::Notify;

use crate::{
    Harness, Received,
    handlers::{counting, spawned},
    payload::numbered,
    request, within,
};

/// Short enough to be waited for, and long enough for a way over two busy cores.
const LIMIT: Duration = Duration::from_millis(1_500);

/// Sends as many items as the body says, and then nothing until it is killed, which it tells.
fn falls_silent() -> (Arc<dyn RequestHandler>, Arc<Notify>) {
    let killed = Arc::new(Notify::new());
    let tell = Arc::clone(&killed);
    let handler = spawned(move |mut call| {
        let tell = Arc::clone(&tell);
        async move {
            for number in 0..call.number() {
                if call.sink.send(numbered(number)).await.is_err() {
                    return;
                }
            }
            call.context.killed().await;
            tell.notify_one();
        }
    });
    (handler, killed)
}

/// A request that is with its handler counts as accepted, though the handler says nothing.
pub async fn a_silent_handler_is_accepted_soon(harness: &dyn Harness) {
    let kept: Arc<Mutex<Vec<ResponseSink>>> = Arc::default();
    let keeps = Arc::clone(&kept);
    let keep = move |_: sinew_plane::IncomingRequest<'_>, sink: ResponseSink| {
        if let Ok(mut kept) = keeps.lock() {
            kept.push(sink);
        }
    };
    let served = harness.serve(Arc::new(keep)).await;
    // Once to connect, and once to be timed.
    drop(served.open(request("")).await);
    let mut stream = served.open(request("")).await;
    let opened = clock::now();
    let started = within("the acceptance", stream.started()).await;
    assert!(started.is_ok(), "{started:?}");
    // 100 ms, and what a busy machine adds.
    assert!(clock::since(opened) < Duration::from_secs(5), "{:?}", clock::since(opened));
}

/// Also while the handler holds its thread.
pub async fn a_handler_that_blocks_its_thread_is_accepted(harness: &dyn Harness) {
    let (release, blocks) = mpsc::channel::<()>();
    let blocks = Arc::new(Mutex::new(blocks));
    let handler = spawned(move |call| {
        let blocks = Arc::clone(&blocks);
        async move {
            if let Ok(blocks) = blocks.lock() {
                // Until the case is over, however it ends.
                let _ = blocks.recv();
            }
            call.sink.complete();
        }
    });
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("")).await;
    let started = within("the acceptance", stream.started()).await;
    drop(release);
    assert!(started.is_ok(), "{started:?}");
    assert!(Received::read(&mut stream).await.complete().is_empty());
}

/// The accept limit ends with the acceptance, however long the handler takes then.
pub async fn an_accepted_stream_outlasts_the_accept_limit(harness: &dyn Harness) {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let handler = spawned(move |mut call| {
        let gate = Arc::clone(&opened);
        async move {
            gate.notified().await;
            if call.sink.send("late".into()).await.is_ok() {
                call.sink.complete();
            }
        }
    });
    let served = harness.serve(handler).await;
    let limits = CallLimits { accept: Some(LIMIT), ..CallLimits::default() };
    let mut stream = served.open(request("").with_limits(limits)).await;
    let started = within("the acceptance", stream.started()).await;
    assert!(started.is_ok(), "{started:?}");
    let early = tokio::time::timeout(LIMIT * 2, stream.next()).await;
    assert!(early.is_err(), "nothing was sent, and nothing ends an accepted stream: {early:?}");
    gate.notify_one();
    assert_eq!(Received::read(&mut stream).await.complete(), ["late"]);
}

async fn assert_limited(harness: &dyn Harness, items: u64, limits: CallLimits) -> Error {
    let (handler, killed) = falls_silent();
    let served = harness.serve(handler).await;
    let mut stream = served.open(request(items.to_string()).with_limits(limits)).await;
    let opened = clock::now();
    let received = Received::read(&mut stream).await;
    assert!(clock::since(opened) >= LIMIT, "too early: {:?}", clock::since(opened));
    let sent: Vec<_> = (0..items).map(numbered).collect();
    assert_eq!(received.items, sent);
    within("the handler to be killed", killed.notified()).await;
    assert!(stream.next().await.is_none(), "nothing follows");
    received.failed().clone()
}

/// The stream fails with an error that names the limit, and the context of the handler is killed.
pub async fn the_first_item_limit_ends_a_silent_stream(harness: &dyn Harness) {
    let limits = CallLimits { first_item: Some(LIMIT), ..CallLimits::default() };
    let error = assert_limited(harness, 0, limits).await;
    assert_eq!(error.code(), Code::FirstItemTimedOut, "{error}");
    assert!(error.message().contains("first-item limit"), "{error}");
    assert_ne!(error.executed(), Executed::No);
}

/// After the items that arrived, the stream fails with an error that names the limit, and the
/// context of the handler is killed.
pub async fn the_idle_limit_ends_a_stream_that_falls_silent(harness: &dyn Harness) {
    let limits = CallLimits { idle: Some(LIMIT), ..CallLimits::default() };
    let error = assert_limited(harness, 3, limits).await;
    assert_eq!((error.code(), error.executed()), (Code::IdleTimedOut, Executed::Yes), "{error}");
    assert!(error.message().contains("idle limit"), "{error}");
}

/// A limit of the call itself counts before that of its router.
pub async fn the_limits_of_the_call_come_first(harness: &dyn Harness) {
    let (handler, _killed) = falls_silent();
    let served = harness.serve(handler).await;
    let context = sinew_plane::Context::builder().first_item_timeout(LIMIT).build();
    let longer = CallLimits { first_item: Some(LIMIT * 100), ..CallLimits::default() };
    let request = request("0").with_context(context).with_limits(longer);
    let received = Received::read(&mut served.open(request).await).await;
    assert_eq!(received.failed().code(), Code::FirstItemTimedOut);
}

/// A stream that keeps its limits is none the worse for them, also when its reader is slow.
pub async fn limits_that_are_kept_change_nothing(harness: &dyn Harness) {
    let served = harness.serve(counting()).await;
    let limits = CallLimits {
        accept: Some(LIMIT * 4),
        first_item: Some(LIMIT * 4),
        idle: Some(LIMIT * 4),
        ..CallLimits::default()
    };
    let mut stream = served.open(request("1000").with_limits(limits)).await;
    let received = Received::read(&mut stream).await;
    assert_eq!(received.complete().len(), 1_000);
    assert!(matches!(stream.outcome(), Some(Outcome::Complete { items: 1_000 })));
}
