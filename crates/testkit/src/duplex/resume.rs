//! A connection is cut, and its streams go on over another one: each item comes once, in order.
//!
//! Together with [`detached`](super::detached) this is what
//! [`resume_suite!`](crate::resume_suite) runs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::{
    StreamExt,
    future::{join, join_all},
};
use sinew_plane::{RequestHandler, ResponseStream, Window};

use crate::{
    Cut, Harness, PATIENCE, Received, Reports, Served, Way,
    handlers::{Call, counting, spawned},
    payload::{assert_same, numbered, patterned},
    reports, request, until, within,
};

/// A server behind a way that the case can cut.
pub(super) async fn serve(
    harness: &dyn Harness,
    handler: Arc<dyn RequestHandler>,
) -> (Served, Arc<dyn Way>) {
    match harness.serve_resuming(handler) {
        Some(serving) => serving.await,
        None => panic!("the harness has no `serve_resuming`"),
    }
}

/// Hands each call to the case, which answers in the handler's place.
pub(super) fn handing() -> (Arc<dyn RequestHandler>, Reports<Call>) {
    let (reporter, calls) = reports();
    let handler = spawned(move |call| {
        reporter.tell(call);
        async {}
    });
    (handler, calls)
}

/// Takes the next item, which must be that of the number.
pub(super) async fn take(stream: &mut ResponseStream, number: u64) {
    let item = within("an item", stream.next()).await;
    assert_eq!(item.map(Result::ok), Some(Some(numbered(number))), "I2");
}

/// Reads to the end a stream of which `taken` items were taken, and that has `all`.
pub(super) async fn rest(stream: &mut ResponseStream, taken: u64, all: u64) {
    let items = Received::read(stream).await.complete();
    let wanted: Vec<_> = (taken..all).map(numbered).collect();
    assert!(items == wanted, "I2: {} items came where {} were due", items.len(), all - taken);
}

/// Neither an end of the connection nor an error of it ends its streams.
pub async fn a_cut_between_items_loses_none(harness: &dyn Harness) {
    let (served, way) = serve(harness, counting()).await;
    for how in [Cut::Fin, Cut::Reset] {
        let mut stream = served.open(request("5000")).await;
        for number in 0..100 {
            take(&mut stream, number).await;
        }
        way.cut(how);
        rest(&mut stream, 100, 5_000).await;
    }
}

/// A connection on which nothing passes any more, and of which nobody is told, is found by
/// keep-alive, and its streams go on over another one.
pub async fn a_connection_that_falls_silent_is_found_and_left(harness: &dyn Harness) {
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    let mut stream = served.open(request("")).await;
    let mut call = calls.next("the call").await;
    assert!(call.sink.send(numbered(0)).await.is_ok());
    take(&mut stream, 0).await;
    way.cut(Cut::Silence);
    assert!(call.sink.send(numbered(1)).await.is_ok());
    take(&mut stream, 1).await;
    call.sink.complete();
    rest(&mut stream, 2, 2).await;
}

/// An item of which a part has arrived comes again, whole.
pub async fn a_cut_inside_a_large_item_sends_it_again(harness: &dyn Harness) {
    const LENGTH: usize = 1 << 20;
    let handler = spawned(|mut call: Call| async move {
        for number in 0..call.number() {
            if call.sink.send(patterned(LENGTH, number)).await.is_err() {
                return;
            }
        }
        call.sink.complete();
    });
    let (served, way) = serve(harness, handler).await;
    for (bytes, how) in [(100_000, Cut::Fin), (1_100_000, Cut::Reset), (2_900_000, Cut::Fin)] {
        // The stream opens on a connection that is cut behind so many bytes of its answer.
        served.call(request("0")).await.complete();
        way.cut_after(bytes, how);
        let mut stream = served.open(request("3")).await;
        let items = Received::read(&mut stream).await.complete();
        assert_eq!(items.len(), 3);
        for (number, item) in (0..).zip(&items) {
            assert_same(item, &patterned(LENGTH, number));
        }
    }
}

/// A request that runs and has not answered yet is still answered, and runs once.
pub async fn a_cut_before_the_first_item_loses_nothing(harness: &dyn Harness) {
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    for how in [Cut::Fin, Cut::Reset] {
        let mut stream = served.open(request("")).await;
        let mut call = calls.next("the call").await;
        let made = way.made();
        way.cut(how);
        until("another connection", || way.made() > made).await;
        assert!(call.sink.send(numbered(0)).await.is_ok());
        call.sink.complete();
        rest(&mut stream, 0, 1).await;
        assert!(calls.is_empty(), "I7: the request ran twice");
    }
}

/// The next connection breaks as well, wherever: inside the greeting, the answer to an attach, the
/// items that come again.
pub async fn a_cut_at_any_byte_loses_nothing(harness: &dyn Harness) {
    let (served, way) = serve(harness, counting()).await;
    let mut stream = served.open(request("10000000")).await;
    take(&mut stream, 0).await;
    let mut taken = 1;
    for bytes in (0..240).step_by(12) {
        way.cut_next_after(bytes, if bytes % 24 == 0 { Cut::Fin } else { Cut::Reset });
        let made = way.made();
        way.cut(Cut::Fin);
        // Read on, because a connection on which nothing is due passes no further byte.
        while way.made() < made + 2 {
            take(&mut stream, taken).await;
            taken += 1;
        }
    }
    stream.context().kill();
}

/// However soon one cut follows the other, and without an item between them.
pub async fn cuts_one_after_another_lose_nothing(harness: &dyn Harness) {
    let (served, way) = serve(harness, counting()).await;
    let mut stream = served.open(request("3000")).await;
    take(&mut stream, 0).await;
    for _ in 0..20 {
        let made = way.made();
        way.cut(Cut::Reset);
        until("another connection", || way.made() > made).await;
    }
    rest(&mut stream, 1, 3_000).await;
}

/// All streams of a lost connection attach over one new connection, and not over one each.
pub async fn many_streams_come_back_together(harness: &dyn Harness) {
    const STREAMS: u64 = 200;
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    let (mut streams, mut held) = (Vec::new(), Vec::new());
    for _ in 0..STREAMS {
        streams.push(served.open(request("")).await);
        let mut call = calls.next("a call").await;
        assert!(call.sink.send(numbered(0)).await.is_ok());
        held.push(call);
    }
    for stream in &mut streams {
        take(stream, 0).await;
    }
    let made = way.made();
    way.cut(Cut::Fin);
    until("another connection", || way.made() > made).await;
    for call in &mut held {
        assert!(call.sink.send(numbered(1)).await.is_ok());
    }
    for stream in &mut streams {
        take(stream, 1).await;
    }
    let more = way.made() - made;
    // A dial that was slow may have been tried again.
    assert!(more <= 3, "{more} connections for the {STREAMS} streams of one");
    for (call, stream) in held.into_iter().zip(&mut streams) {
        call.sink.complete();
        rest(stream, 2, 2).await;
    }
}

/// Twenty busy streams and thirty cuts: no gap, no double, no swap (I2), and each is complete.
pub async fn cuts_under_load_leave_each_item_once(harness: &dyn Harness) {
    const STREAMS: u64 = 20;
    const ITEMS: u64 = 15_000;
    let (served, way) = serve(harness, counting()).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = served.open(request(ITEMS.to_string())).await;
        take(&mut stream, 0).await;
        streams.push(stream);
    }
    let cutting = async {
        for number in 0..30 {
            let made = way.made();
            // Somewhere in what comes, and another place each time.
            way.cut_after(500 + number * 173, if number % 2 == 0 { Cut::Fin } else { Cut::Reset });
            let next = async {
                while way.made() == made {
                    tokio::task::yield_now().await;
                }
            };
            // The streams may end before all cuts are made.
            if tokio::time::timeout(std::time::Duration::from_millis(500), next).await.is_err() {
                return number;
            }
        }
        30
    };
    let reading = join_all(streams.iter_mut().map(|stream| rest(stream, 1, ITEMS)));
    let (cuts, _) = join(cutting, reading).await;
    assert!(cuts >= 10, "only {cuts} cuts while items came");
}

/// What runs when a server shuts down has its grace to end, and keeps its promise in it: the stream
/// outlives its connection, and the end that the server has written arrives.
pub async fn cuts_while_the_server_shuts_down_lose_nothing(harness: &dyn Harness) {
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    let mut stream = served.open(request("")).await;
    let mut call = calls.next("the call").await;
    assert!(call.sink.send(numbered(0)).await.is_ok());
    take(&mut stream, 0).await;
    let reading = async {
        for number in 1..4 {
            way.cut(if number % 2 == 0 { Cut::Fin } else { Cut::Reset });
            assert!(call.sink.send(numbered(number)).await.is_ok());
            take(&mut stream, number).await;
        }
        // Nobody is told that the end is lost with the connection.
        way.cut(Cut::Silence);
        call.sink.complete();
        rest(&mut stream, 4, 4).await;
    };
    let (shutdown, ()) =
        join(within("the shutdown", served.server.shutdown(PATIENCE)), reading).await;
    assert_eq!(shutdown.cut_streams, 0);
}

/// A producer without credit stays so over a cut, and is woken by the credit that follows it.
pub async fn a_parked_producer_goes_on_where_it_was(harness: &dyn Harness) {
    let (reporter, mut sent) = reports();
    let handler = spawned(move |mut call: Call| {
        let reporter = reporter.clone();
        async move {
            for number in 0..20 {
                if call.sink.send(numbered(number)).await.is_err() {
                    return;
                }
                reporter.tell(number);
            }
            call.sink.complete();
        }
    });
    let (served, way) = serve(harness, handler).await;
    let window = Window { items: 4, bytes: 1_000 };
    let mut stream = served.open(request("").with_window(window)).await;
    for number in 0..4 {
        assert_eq!(sent.next("an item to be sent").await, number);
    }
    for _ in 0..3 {
        let made = way.made();
        way.cut(Cut::Fin);
        until("another connection", || way.made() > made).await;
        assert!(sent.is_empty(), "an attach gave credit that its caller did not");
    }
    rest(&mut stream, 0, 20).await;
}

/// I7: coming back is no second request.
pub async fn no_request_runs_twice(harness: &dyn Harness) {
    let runs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    let (reporter, mut calls) = reports();
    let handler = spawned(move |call: Call| {
        counted.fetch_add(1, Ordering::Relaxed);
        reporter.tell(call);
        async {}
    });
    let (served, way) = serve(harness, handler).await;
    for request_number in 1..=20 {
        let mut stream = served.open(request("")).await;
        let mut call = calls.next("the call").await;
        let made = way.made();
        way.cut(Cut::Reset);
        until("another connection", || way.made() > made).await;
        assert!(call.sink.send(numbered(0)).await.is_ok());
        call.sink.complete();
        rest(&mut stream, 0, 1).await;
        assert_eq!(runs.load(Ordering::Relaxed), request_number);
    }
}
