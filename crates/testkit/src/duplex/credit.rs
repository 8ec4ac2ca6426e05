//! A producer is ahead of its reader by its window and no more, and holds up nobody else.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::{join_all, poll_fn},
    poll,
};
use sinew_plane::{Error, RequestHandler, TrySendError, Window};

use crate::{
    Call, Harness, Received, Reporter, Reports,
    handlers::spawned,
    payload::{numbered, patterned},
    reports, request, within,
};

/// What a producer found when it filled its window.
#[derive(Debug, PartialEq, Eq)]
struct Parked {
    /// Items it sent before there was no credit.
    sent: u64,
}

/// Fills the window with `item`s, says so, and sends the rest, `total` in all, as credit comes.
async fn fill_then_finish(
    mut call: Call,
    total: u64,
    item: impl Fn(u64) -> Bytes,
    parked: Reporter<Parked>,
) -> Result<(), Error> {
    let mut first_park = true;
    while call.sink.sent() < total {
        match call.sink.try_send(item(call.sink.sent())) {
            Ok(()) => call.sink.flush(),
            Err(TrySendError::Closed(error)) => return Err(error),
            Err(TrySendError::Full(_)) => {
                let ready = poll!(poll_fn(|cx| call.sink.poll_ready(cx)));
                if ready.is_ready() {
                    // Its reader has granted more in between, which only this side uses up.
                    let sent = call.sink.try_send(item(call.sink.sent()));
                    let refused = matches!(sent, Err(TrySendError::Full(_)));
                    assert!(!refused, "ready, yet refused as full");
                    call.sink.flush();
                    continue;
                }
                if std::mem::take(&mut first_park) {
                    parked.tell(Parked { sent: call.sink.sent() });
                }
                poll_fn(|cx| call.sink.poll_ready(cx)).await?;
            }
        }
    }
    call.sink.complete();
    Ok(())
}

/// Sends items of `length` bytes, as many as the body says.
fn filling(length: usize) -> (Arc<dyn RequestHandler>, Reports<Parked>) {
    let (reporter, parked) = reports();
    let handler = spawned(move |call| {
        let reporter = reporter.clone();
        async move {
            let total = call.number();
            // An error means that the case has failed and dropped its stream.
            drop(fill_then_finish(call, total, |n| patterned(length, n), reporter).await);
        }
    });
    (handler, parked)
}

async fn park(parked: &mut Reports<Parked>) -> Parked {
    parked.next("that a producer has filled its window").await
}

/// As many items as the window has, when they are small.
pub async fn the_item_window_parks_the_producer(harness: &dyn Harness) {
    for items in [1, 2, 7, 100] {
        let (handler, mut parked) = filling(10);
        let served = harness.serve(handler).await;
        let window = Window { items, bytes: 1 << 20 };
        let mut stream = served.open(request("500").with_window(window)).await;
        assert_eq!(park(&mut parked).await, Parked { sent: u64::from(items) });
        assert_eq!(Received::read(&mut stream).await.complete().len(), 500);
    }
}

/// Items start while there are bytes left, so the last one goes over the edge.
pub async fn the_byte_window_parks_the_producer(harness: &dyn Harness) {
    for (bytes, length, sent) in [(1000, 300, 4), (900, 300, 3), (65_536, 40_000, 2)] {
        let (handler, mut parked) = filling(length);
        let served = harness.serve(handler).await;
        let window = Window { items: 1000, bytes };
        let mut stream = served.open(request("20").with_window(window)).await;
        assert_eq!(park(&mut parked).await, Parked { sent }, "{bytes} by {length}");
        let items = Received::read(&mut stream).await.complete();
        assert!(items.len() == 20 && items.iter().all(|item| item.len() == length));
    }
}

/// If a call sets no window, the window of the transport limits its producer.
pub async fn the_window_of_the_transport_parks_the_producer(harness: &dyn Harness) {
    let window = harness.window();
    let (handler, mut parked) = filling(1);
    let served = harness.serve(handler).await;
    let total = u64::from(window.items) + 100;
    let mut stream = served.open(request(total.to_string())).await;
    let sent = u64::from(window.items.min(window.bytes));
    assert_eq!(park(&mut parked).await, Parked { sent });
    assert_eq!(Received::read(&mut stream).await.complete().len() as u64, total);
}

/// It is charged in full and passes alone.
pub async fn an_item_larger_than_the_window_passes(harness: &dyn Harness) {
    const LENGTH: usize = 300_000;
    let (handler, mut parked) = filling(LENGTH);
    let served = harness.serve(handler).await;
    let window = Window { items: 100, bytes: 1 };
    let mut stream = served.open(request("5").with_window(window)).await;
    assert_eq!(park(&mut parked).await, Parked { sent: 1 });
    let items = Received::read(&mut stream).await.complete();
    assert!(items.len() == 5 && items.iter().all(|item| item.len() == LENGTH));
}

/// Credit for one item at a time carries a long stream, if slowly.
pub async fn a_window_of_one_item_carries_many(harness: &dyn Harness) {
    let served = harness.serve(crate::handlers::counting()).await;
    let window = Window { items: 1, bytes: 1 };
    let items = served.call(request("1000").with_window(window)).await.complete();
    assert_eq!(items, (0..1000).map(numbered).collect::<Vec<_>>());
}

/// Item by item: what the reader takes, the producer may send again.
pub async fn a_parked_producer_resumes(harness: &dyn Harness) {
    let (handler, mut parked) = filling(100);
    let served = harness.serve(handler).await;
    let window = Window { items: 10, bytes: 1 << 20 };
    let mut stream = served.open(request("35").with_window(window)).await;
    park(&mut parked).await;
    for number in 0..35 {
        let item = within(format_args!("item {number}"), stream.next()).await;
        assert_eq!(item.map(Result::ok), Some(Some(patterned(100, number))));
    }
    assert!(Received::read(&mut stream).await.complete().is_empty());
}

/// A stream that nobody reads does not slow the one beside it, small or large.
pub async fn a_parked_stream_holds_up_no_other(harness: &dyn Harness) {
    let (handler, mut parked) = filling(1000);
    let served = harness.serve(handler).await;
    let mut stalled = served.open(request("5000")).await;
    park(&mut parked).await;
    for _ in 0..20 {
        assert_eq!(served.call(request("500")).await.complete().len(), 500);
    }
    let body = patterned(1 << 20, 1);
    let echo = harness.serve(crate::handlers::echo()).await;
    assert_eq!(echo.call(request(body.clone())).await.complete(), [body]);
    assert_eq!(Received::read(&mut stalled).await.complete().len(), 5000);
}

/// Fifty readers at work, one asleep.
pub async fn one_stalled_stream_and_fifty_live_ones(harness: &dyn Harness) {
    let (handler, mut parked) = filling(500);
    let served = harness.serve(handler).await;
    let window = Window { items: 16, bytes: 1 << 20 };
    let mut stalled = served.open(request("400").with_window(window)).await;
    assert_eq!(park(&mut parked).await, Parked { sent: 16 });
    let live = (0..50).map(|_| served.call(request("400").with_window(window)));
    for received in join_all(live).await {
        assert_eq!(received.complete().len(), 400);
    }
    assert_eq!(Received::read(&mut stalled).await.complete().len(), 400);
}

/// Also when full windows of many streams together are more than any one buffer on the way.
pub async fn unread_windows_of_many_streams_hold_up_no_other(harness: &dyn Harness) {
    let (handler, mut parked) = filling(32 << 10);
    let served = harness.serve(handler).await;
    let window = Window { items: 1000, bytes: 256 << 10 };
    let open = |_| served.open(request("20").with_window(window));
    let stalled = join_all((0..64).map(open)).await;
    for _ in 0..64 {
        park(&mut parked).await;
    }
    assert_eq!(served.call(request("50")).await.complete().len(), 50);
    for received in Received::read_all(stalled).await {
        assert_eq!(received.complete().len(), 20);
    }
}

/// A handler can end its stream while its window is full and nobody reads, and is done with it.
pub async fn a_terminal_needs_no_credit(harness: &dyn Harness) {
    let (reporter, mut ended) = reports();
    let handler = spawned(move |mut call| {
        let reporter = reporter.clone();
        async move {
            if call.sink.send("only".into()).await.is_err() {
                return;
            }
            match &call.body[..] {
                b"complete" => call.sink.complete(),
                _ => call.sink.fail(Error::handler("told")),
            }
            reporter.tell(());
        }
    });
    let served = harness.serve(handler).await;
    let window = Window { items: 1, bytes: 1 };
    for kind in ["complete", "failed"] {
        let mut stream = served.open(request(kind).with_window(window)).await;
        ended.next("that the handler has ended its stream").await;
        let received = Received::read(&mut stream).await;
        assert_eq!(received.items, ["only"]);
        assert_eq!(received.outcome.as_str(), kind);
    }
}
