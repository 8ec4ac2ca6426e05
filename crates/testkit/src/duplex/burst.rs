//! Many sends, few writes: nothing is left behind by [`sinew_plane::burst`].

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{join_all, poll_fn};
use sinew_plane::{IncomingRequest, RequestHandler, ResponseSink, TrySendError, Window};
use tokio::sync::mpsc;

use crate::{Harness, Received, Served, payload::numbered, request, within};

const STREAMS: usize = 64;

/// An engine's inbox: the handler files every sink away.
fn filing() -> (Arc<dyn RequestHandler>, mpsc::Receiver<ResponseSink>) {
    let (sinks, filed) = mpsc::channel(STREAMS);
    let handler = move |_: IncomingRequest<'_>, sink: ResponseSink| {
        // There is room for all streams of a case, and a sink too many would fail its stream.
        drop(sinks.try_send(sink));
    };
    (Arc::new(handler), filed)
}

/// Opens the streams and hands over their sinks.
async fn opened(
    served: &Served,
    filed: &mut mpsc::Receiver<ResponseSink>,
    window: Window,
) -> (Vec<sinew_plane::ResponseStream>, Vec<ResponseSink>) {
    let open = |_| served.open(request("").with_window(window));
    let streams = join_all((0..STREAMS).map(open)).await;
    let mut sinks = Vec::new();
    while sinks.len() < STREAMS {
        sinks.extend(within("the sinks", filed.recv()).await);
    }
    (streams, sinks)
}

#[track_caller]
fn assert_numbered(received: Vec<Received>, count: u64) {
    let wanted: Vec<_> = (0..count).map(numbered).collect();
    for received in received {
        assert_eq!(received.complete(), wanted);
    }
}

/// One item on each of 64 streams per step, the ends in a burst of their own.
pub async fn a_burst_delivers_everything(harness: &dyn Harness) {
    const STEPS: u64 = 100;
    let (handler, mut filed) = filing();
    let served = harness.serve(handler).await;
    let window = Window { items: 200, bytes: 1 << 16 };
    let (streams, mut sinks) = opened(&served, &mut filed, window).await;
    let reading = tokio::spawn(Received::read_all(streams));
    for step in 0..STEPS {
        sinew_plane::burst(|| {
            for sink in &mut sinks {
                if let Err(refused) = sink.try_send(numbered(step)) {
                    panic!("step {step} is within the window: {refused:?}");
                }
                sink.flush();
            }
        });
        tokio::task::yield_now().await;
    }
    sinew_plane::burst(|| sinks.into_iter().for_each(ResponseSink::complete));
    let Ok(received) = within("all streams to end", reading).await else {
        panic!("reading failed")
    };
    assert_numbered(received, STEPS);
}

/// A burst into windows that are full is refused item by item, and goes on where it left off.
pub async fn a_burst_fills_no_more_than_the_windows(harness: &dyn Harness) {
    const ITEMS: u64 = 50;
    let (handler, mut filed) = filing();
    let served = harness.serve(handler).await;
    let window = Window { items: 8, bytes: 1 << 16 };
    let (streams, mut sinks) = opened(&served, &mut filed, window).await;
    let fill = |sinks: &mut Vec<ResponseSink>| {
        sinew_plane::burst(|| {
            for sink in sinks.iter_mut() {
                while sink.sent() < ITEMS {
                    match sink.try_send(numbered(sink.sent())) {
                        Ok(()) => {}
                        Err(TrySendError::Full(_)) => break,
                        Err(TrySendError::Closed(error)) => panic!("{error:?}"),
                    }
                }
                sink.flush();
            }
        });
    };
    fill(&mut sinks);
    for sink in &sinks {
        assert_eq!(sink.sent(), 8, "nothing was read yet");
    }
    let reading = tokio::spawn(Received::read_all(streams));
    while sinks.iter().any(|sink| sink.sent() < ITEMS) {
        let parked = sinks.iter_mut().filter(|sink| sink.sent() < ITEMS);
        let ready = parked.map(|sink| Box::pin(poll_fn(|cx| sink.poll_ready(cx))));
        drop(within("credit", futures_util::future::select_all(ready)).await);
        fill(&mut sinks);
    }
    sinew_plane::burst(|| sinks.into_iter().for_each(ResponseSink::complete));
    let Ok(received) = within("all streams to end", reading).await else {
        panic!("reading failed")
    };
    assert_numbered(received, ITEMS);
}

/// Nested bursts with several items for each stream, from a thread without a runtime.
pub async fn bursts_of_several_items_keep_their_order(harness: &dyn Harness) {
    let (handler, mut filed) = filing();
    let served = harness.serve(handler).await;
    let window = Window { items: 100, bytes: 1 << 16 };
    let (streams, sinks) = opened(&served, &mut filed, window).await;
    let refused = Arc::new(Mutex::new(None));
    let told = Arc::clone(&refused);
    let engine = std::thread::spawn(move || {
        let mut sinks = sinks;
        sinew_plane::burst(|| {
            for number in 0..30 {
                sinew_plane::burst(|| {
                    for sink in &mut sinks {
                        if let Err(error) = sink.try_send(numbered(number)) {
                            told.lock().unwrap_or_else(PoisonError::into_inner).replace(error);
                        }
                        sink.flush();
                    }
                });
            }
            sinks.drain(..).for_each(ResponseSink::complete);
        });
    });
    assert_numbered(Received::read_all(streams).await, 30);
    assert!(engine.join().is_ok(), "the engine panicked");
    let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
    assert!(refused.is_none(), "all items are within the window: {refused:?}");
}
