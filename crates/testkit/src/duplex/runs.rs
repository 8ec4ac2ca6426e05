//! Items that are sent together are items like others.

use std::future::poll_fn;

use bytes::Bytes;
use sinew_plane::{Code, ItemRun, Window};

use crate::{
    Harness,
    handlers::{Call, spawned},
    payload::{assert_same, patterned},
    request, within,
};

const KIB: usize = 1 << 10;

/// Sizes that fall on both sides of what transports copy, chunk and grant.
const SIZES: [usize; 8] = [0, 1, 7, 300, 0, 3 * KIB, 70 * KIB, 20];

fn item(number: usize) -> Bytes {
    patterned(SIZES[number % SIZES.len()], number as u64)
}

/// Sends the items in runs of 1, 2, 3 and so on, each as far as there is credit and the rest later.
async fn send_in_runs(call: &mut Call, items: usize) -> bool {
    let (mut made, mut run) = (0, ItemRun::new());
    for size in 1.. {
        while run.count() < size && made < items {
            run.push(&item(made));
            made += 1;
        }
        while !run.is_empty() {
            let Ok(room) = call.sink.try_send_run(&mut run) else { return false };
            call.sink.flush();
            if run.is_empty() {
                break;
            }
            assert_eq!(room, 0, "there is room, and {run:?} was left");
            if poll_fn(|cx| call.sink.poll_ready(cx)).await.is_err() {
                return false;
            }
        }
        if made == items {
            break;
        }
    }
    call.sink.sent() == items as u64
}

/// Items in runs come one by one and in order, whatever the window lets through at a time.
pub async fn items_come_in_order_whatever_the_window(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        let items = call.number() as usize;
        if send_in_runs(&mut call, items).await {
            call.sink.complete();
        }
    });
    let served = harness.serve(handler).await;
    for window in [
        Window { items: 100, bytes: 1 << 20 },
        Window { items: 3, bytes: 1 << 20 },
        Window { items: 1 << 10, bytes: 100 },
        Window { items: 1, bytes: 1 },
    ] {
        let call = served.call(request("100").with_window(window));
        let received = within("the items", call).await.complete();
        assert_eq!(received.len(), 100, "{window:?}");
        for (number, received) in received.iter().enumerate() {
            assert_same(received, &item(number));
        }
    }
}

/// A run into a response that its caller has killed says so, and is not taken.
pub async fn a_killed_response_takes_none(harness: &dyn Harness) {
    let (ended, mut ends) = tokio::sync::mpsc::channel(1);
    let handler = spawned(move |mut call| {
        let ended = ended.clone();
        async move {
            if call.sink.send(item(1)).await.is_err() {
                return;
            }
            call.sink.context().killed().await;
            let mut run = ItemRun::new();
            run.push(b"late");
            // There is one place, and one end.
            let _ = ended.try_send(call.sink.try_send_run(&mut run).is_err());
        }
    });
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("")).await;
    match within("the first item", futures_util::StreamExt::next(&mut stream)).await {
        Some(Ok(first)) => assert_same(&first, &item(1)),
        other => panic!("an item was sent, and {other:?} came"),
    }
    drop(stream);
    assert_eq!(within("the end", ends.recv()).await, Some(true));
}

/// The items of a run before one that is over the limit arrive; the run then says so.
pub async fn an_item_over_the_limit_ends_its_run(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        let mut run = ItemRun::new();
        for item in [&b"one"[..], b"two", &vec![7; call.number() as usize], b"four"] {
            run.push(item);
        }
        let error = loop {
            match call.sink.try_send_run(&mut run) {
                Err(error) => break error,
                // The items before it may need credit of their own.
                Ok(_) if poll_fn(|cx| call.sink.poll_ready(cx)).await.is_ok() => {}
                Ok(_) => return,
            }
        };
        call.sink.fail(error);
    });
    let served = harness.serve(handler).await;
    let limit = served.client.capabilities().max_message_bytes;
    let call = served.call(request((limit + 1).to_string()));
    let received = within("the end", call).await;
    assert_eq!(received.failed().code(), Code::TooLarge, "{:?}", received.error);
    assert_eq!(received.items, ["one", "two"]);
}
