//! Items come out in the order they went in, all of them.

use bytes::Bytes;
use futures_util::future::join_all;

use crate::{
    Harness, Record, check,
    handlers::{counting, spawned},
    payload::numbered,
    request,
};

/// A stream may have no items.
pub async fn no_items(harness: &dyn Harness) {
    let served = harness.serve(counting()).await;
    assert!(served.call(request("0")).await.complete().is_empty());
}

/// 1, 3 and 10,000 items come in order, as the record of their producer has them.
pub async fn items_come_in_order(harness: &dyn Harness) {
    let record = Record::default();
    let served = harness.serve(recorded(&record)).await;
    for count in [1_u64, 3, 10_000] {
        let before = record.steps().len();
        let received = served.call(request(count.to_string())).await;
        if let Err(violation) = check(&record.steps()[before..], &received.observed()) {
            panic!("{count} items: {violation}");
        }
        assert_eq!(received.complete().len() as u64, count);
    }
}

/// [`counting`] that puts down what it does.
fn recorded(record: &Record) -> std::sync::Arc<dyn sinew_plane::RequestHandler> {
    let record = record.clone();
    spawned(move |mut call| {
        let record = record.clone();
        async move {
            let items = call.number();
            for number in 0..items {
                if call.sink.send(record.item(numbered(number))).await.is_err() {
                    return;
                }
            }
            record.end(sinew_plane::Terminal::Complete { items });
            call.sink.complete();
        }
    })
}

/// An empty item is not nothing.
pub async fn empty_items_are_items(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        for item in ["", "", "x", ""] {
            if call.sink.send(Bytes::from_static(item.as_bytes())).await.is_err() {
                return;
            }
        }
        call.sink.complete();
    });
    let served = harness.serve(handler).await;
    assert_eq!(served.call(request("")).await.complete(), ["", "", "x", ""]);
}

/// Bytes above 127 are left alone, in bodies and items.
pub async fn unicode_survives(harness: &dyn Harness) {
    const TEXT: &str = "na\u{ef}ve \u{65e5}\u{672c}\u{8a9e} \u{1f680}\u{200d}\u{1f9d1} \u{0}\u{7f}";
    let served = harness.serve(crate::handlers::echo()).await;
    assert_eq!(served.call(request(TEXT)).await.complete(), [TEXT]);
}

/// 100,000 items pass through a window many times over.
pub async fn many_more_items_than_a_window(harness: &dyn Harness) {
    let served = harness.serve(counting()).await;
    let items = served.call(request("100000")).await.complete();
    assert_eq!(items.len(), 100_000);
    let misplaced = (0_u64..).zip(&items).find(|(number, item)| **item != numbered(*number));
    assert_eq!(misplaced, None);
}

/// Streams that run at the same time do not get each other's items.
pub async fn streams_side_by_side_keep_their_order(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        for number in 0..500 {
            let item = format!("{}/{number}", call.number());
            if call.sink.send(item.into()).await.is_err() {
                return;
            }
            if number % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        call.sink.complete();
    });
    let served = harness.serve(handler).await;
    let streams = (0..20).map(|stream| served.call(request(format!("{stream}"))));
    for (stream, received) in join_all(streams).await.into_iter().enumerate() {
        let wanted: Vec<_> = (0..500).map(|number| format!("{stream}/{number}")).collect();
        assert_eq!(received.complete(), wanted);
    }
}
