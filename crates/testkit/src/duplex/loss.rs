//! The way between the ends breaks, and nobody mistakes that for an end.

use std::sync::Arc;

use futures_util::{
    StreamExt,
    future::{join, join_all},
};
use sinew_plane::{Executed, RequestHandler, Window};

use crate::{
    Harness, Received, Record, Reports, check,
    handlers::{Call, spawned},
    payload::numbered,
    reports, request, within,
};

/// Begins as the body says, tells that it did, then holds its sink whatever happens, so that
/// nothing it does can be taken for an end.
fn holding() -> (Arc<dyn RequestHandler>, Reports<&'static str>) {
    let (reporter, told) = reports();
    let handler = spawned(move |mut call: Call| {
        let reporter = reporter.clone();
        async move {
            match &call.body[..] {
                b"items" => {
                    for number in 0..3 {
                        if call.sink.send(numbered(number)).await.is_err() {
                            return;
                        }
                    }
                }
                b"accept" => {
                    call.sink.accept();
                    call.sink.flush();
                }
                _ => {}
            }
            reporter.tell("began");
            call.context.killed().await;
            reporter.tell("killed");
            let refused = call.sink.send("late".into()).await.is_err();
            reporter.tell(if refused { "refused" } else { "taken" });
            std::future::pending::<()>().await;
        }
    });
    (handler, told)
}

/// The items are a prefix, and their number is told.
pub async fn a_loss_between_items_truncates(harness: &dyn Harness) {
    let (handler, _told) = holding();
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("items")).await;
    for number in 0..3 {
        let item = within("an item", stream.next()).await;
        assert_eq!(item.map(Result::ok), Some(Some(numbered(number))));
    }
    within("the cut", harness.cut(&served)).await;
    let received = Received::read(&mut stream).await;
    assert_eq!((received.items.len(), received.outcome.as_str()), (0, "truncated"));
    assert_eq!(stream.received(), 3);
    assert!(received.error.is_some_and(|error| !error.is_safe_to_resend()));
}

/// The handler has begun, so this is no refusal.
pub async fn a_loss_after_the_start_truncates(harness: &dyn Harness) {
    let (handler, _told) = holding();
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("accept")).await;
    assert!(within("the start", stream.started()).await.is_ok());
    within("the cut", harness.cut(&served)).await;
    let received = Received::read(&mut stream).await;
    assert_eq!((received.items.len(), received.outcome.as_str()), (0, "truncated"));
}

/// The caller cannot know whether the handler ran, and is not told that it did not.
pub async fn a_loss_before_the_start_may_have_run(harness: &dyn Harness) {
    let (handler, mut told) = holding();
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("silence")).await;
    assert_eq!(told.next("the handler").await, "began");
    within("the cut", harness.cut(&served)).await;
    // On a slow machine the loss comes behind the acceptance, which a silent handler has too.
    if let Err(error) = within("the loss", stream.started()).await {
        assert_ne!(error.executed(), Executed::No, "{error:?}");
        assert!(!error.is_safe_to_resend(), "{error:?}");
    }
    let received = Received::read(&mut stream).await;
    assert!(received.items.is_empty(), "{:?}", received.items);
    assert!(received.error.is_some_and(|error| !error.is_safe_to_resend()));
}

/// Its context is killed, and what it still sends is refused.
pub async fn a_loss_cancels_the_handler(harness: &dyn Harness) {
    let (handler, mut told) = holding();
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("accept")).await;
    assert!(within("the start", stream.started()).await.is_ok());
    assert_eq!(told.next("the handler").await, "began");
    within("the cut", harness.cut(&served)).await;
    assert_eq!(told.next("the handler").await, "killed");
    assert_eq!(told.next("the handler").await, "refused");
}

/// A small window, so that what is produced while the way breaks is bounded by what is read.
const BUSY_WINDOW: Window = Window { items: 64, bytes: 64 << 10 };

/// Items of a producer that is busy: its reader has given back most of its window many times.
const BUSY_ITEMS: u64 = 512;

/// Twenty busy streams: what each reader got is a prefix of what its producer sent (I2), and
/// none of them believes that it is complete (I3).
pub async fn a_loss_under_load_leaves_true_prefixes(harness: &dyn Harness) {
    let records: Vec<_> = (0..20).map(|_| Record::default()).collect();
    let handler_records = records.clone();
    let (reporter, mut busy) = reports();
    let handler = spawned(move |mut call| {
        let record = handler_records.get(call.number() as usize).cloned().unwrap_or_default();
        let reporter = reporter.clone();
        async move {
            let mut number = 0;
            while call.sink.send(record.item(numbered(number))).await.is_ok() {
                number += 1;
                if number == BUSY_ITEMS {
                    reporter.tell(call.number());
                }
            }
            // Held, so that the loss is the only end there can be.
            std::future::pending::<()>().await;
        }
    });
    let served = harness.serve(handler).await;
    let mut streams = Vec::new();
    for number in 0..20 {
        let mut request = request(number.to_string());
        request.window = Some(BUSY_WINDOW);
        let mut stream = served.open(request).await;
        assert!(within("the start", stream.started()).await.is_ok());
        streams.push(stream);
    }
    let cut = async {
        for _ in &records {
            busy.next("a busy producer").await;
        }
        within("the cut", harness.cut(&served)).await;
    };
    // They read on while the way breaks.
    let reading = join_all(streams.iter_mut().map(Received::read));
    let ((), received) = join(cut, reading).await;
    for (received, record) in received.iter().zip(&records) {
        if let Err(violation) = check(&record.steps(), &received.observed()) {
            panic!("{violation}");
        }
        // What was sent behind the window needed credit, so it was read.
        let read = received.items.len() as u64;
        assert!(read >= BUSY_ITEMS - u64::from(BUSY_WINDOW.items), "{read} items were read");
        assert_eq!(received.outcome.as_str(), "truncated");
    }
}
