//! The connection between the two ends breaks, and no caller takes the loss for an end.

use std::sync::Arc;

use futures_util::{
    StreamExt,
    future::{join, join_all},
};
use sinew_plane::{Executed, RequestHandler};
use tokio::sync::Semaphore;

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

/// The caller gets a prefix of the items, and the truncated stream reports how many it received.
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

/// How far a producer is ahead of its reader at the most, in items: what is produced while the way
/// breaks is then bounded by what is read, whatever a transport or a socket has room for.
const AHEAD: usize = 256;

/// Items of a producer that is busy: its reader has taken at least half of them.
const BUSY_ITEMS: u64 = 2 * AHEAD as u64;

/// Twenty busy streams: what each reader got is a prefix of what its producer sent (I2), and
/// none of them believes that it is complete (I3).
pub async fn a_loss_under_load_leaves_true_prefixes(harness: &dyn Harness) {
    let new = |_| (Record::default(), Arc::new(Semaphore::new(AHEAD)));
    let ways: Vec<_> = (0..20).map(new).collect();
    let handler_ways = ways.clone();
    let (reporter, mut busy) = reports();
    let handler = spawned(move |mut call| {
        let number = call.number();
        let (record, room) = handler_ways.get(number as usize).cloned().unwrap_or_else(|| new(0));
        let reporter = reporter.clone();
        async move {
            let mut sent = 0;
            while let Ok(permit) = room.acquire().await {
                permit.forget();
                if call.sink.send(record.item(numbered(sent))).await.is_err() {
                    break;
                }
                sent += 1;
                if sent == BUSY_ITEMS {
                    reporter.tell(number);
                }
            }
            // Held, so that the loss is the only end there can be.
            std::future::pending::<()>().await;
        }
    });
    let served = harness.serve(handler).await;
    let mut streams = Vec::new();
    for number in 0..20 {
        let mut stream = served.open(request(number.to_string())).await;
        assert!(within("the start", stream.started()).await.is_ok());
        streams.push(stream);
    }
    let cut = async {
        for _ in &ways {
            busy.next("a busy producer").await;
        }
        within("the cut", harness.cut(&served)).await;
    };
    // They read on while the way breaks.
    let reading = streams.iter_mut().zip(&ways).map(|(stream, (_, room))| {
        let room = Arc::clone(room);
        Received::read_telling(stream, move || room.add_permits(1))
    });
    let ((), received) = join(cut, join_all(reading)).await;
    for (received, (record, _)) in received.iter().zip(&ways) {
        if let Err(violation) = check(&record.steps(), &received.observed()) {
            panic!("{violation}");
        }
        let read = received.items.len() as u64;
        assert!(read >= BUSY_ITEMS - AHEAD as u64, "{read} items were read");
        assert_eq!(received.outcome.as_str(), "truncated");
    }
}
