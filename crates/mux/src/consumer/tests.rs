//! Rules of the module above, each on its own.

use bytes::Bytes;

use super::*;
use crate::FRAME_HEADER_BYTES;

const WINDOW: Window = Window { items: 4, bytes: 100 };

fn item(len: usize) -> Items {
    Items::one(vec![b'x'; len].into())
}

fn take(consumer: &mut Consumer) -> usize {
    let mut batch = ItemBatch::new();
    consumer.take(&mut batch);
    batch.count()
}

fn end(consumer: &mut Consumer, terminal: Terminal, items: u64) -> Result<(), StreamViolation> {
    consumer.on_terminal(terminal, items, Headers::new())
}

fn headers(value: &str) -> Headers {
    let mut headers = Headers::new();
    headers.insert("a", value).unwrap();
    headers
}

#[test]
fn a_head_comes_before_the_items_and_is_kept_once() {
    let mut consumer = Consumer::new(WINDOW);
    assert!(consumer.head().is_none() && !consumer.is_started());
    assert_eq!(consumer.on_head(headers("1")), Ok(true));
    assert!(consumer.is_started());
    assert_eq!(consumer.queued_bytes(), 5);
    consumer.on_carrier_lost();
    assert_eq!(consumer.on_head(headers("1")), Ok(false), "sent again after the attach");
    consumer.on_items(item(1)).unwrap();
    assert!(consumer.on_head(headers("1")).is_err(), "an item was there");
    assert_eq!(consumer.head(), Some(headers("1")));
    take(&mut consumer);
    assert_eq!(consumer.queued_bytes(), 5, "it is charged until the end");
    consumer.drop_metadata();
    assert_eq!(consumer.queued_bytes(), 0);
}

#[test]
fn an_item_or_the_end_says_that_there_is_no_head() {
    let mut consumer = Consumer::new(WINDOW);
    consumer.on_accept().unwrap();
    assert_eq!(consumer.head(), None, "it may still come");
    consumer.on_item_begin(9).unwrap();
    assert_eq!(consumer.head(), Some(Headers::new()));
    assert!(consumer.on_head(headers("1")).is_err(), "an item has begun");
    // Its beginning went with the carrier, and what its caller was told stays true.
    consumer.on_carrier_lost();
    assert_eq!(consumer.head(), Some(Headers::new()));
    assert!(consumer.on_head(headers("1")).is_err(), "an item has begun before");

    let mut ended = Consumer::new(WINDOW);
    ended.on_terminal(Terminal::Complete { items: 0 }, 0, headers("2")).unwrap();
    assert_eq!((ended.head(), ended.facts()), (Some(Headers::new()), &headers("2")));
    assert!(ended.on_head(headers("1")).is_err());
}

#[test]
fn credit_is_due_after_half_a_window() {
    let mut consumer = Consumer::new(WINDOW);
    consumer.on_items(item(1)).unwrap();
    consumer.on_items(item(1)).unwrap();
    assert_eq!(take(&mut consumer), 2);
    assert_eq!(consumer.credit_due(), None, "taken is not yet consumed");
    assert_eq!(take(&mut consumer), 0);
    assert_eq!(consumer.credit_due(), Some(Credit { consumed: 2, items: 4, bytes: 100 }));
    assert_eq!(consumer.credit_due(), None);
}

#[test]
fn a_large_window_is_told_of_before_its_half() {
    let mut consumer = Consumer::new(Window { items: 1 << 20, bytes: 1 << 30 });
    for _ in 0..REPORT_AT_LATEST.items {
        assert_eq!(consumer.credit_due(), None);
        consumer.on_items(item(1)).unwrap();
        take(&mut consumer);
    }
    take(&mut consumer);
    assert_eq!(consumer.credit_due().unwrap().consumed, REPORT_AT_LATEST.items.into());
    consumer.on_items(item(REPORT_AT_LATEST.bytes as usize)).unwrap();
    take(&mut consumer);
    take(&mut consumer);
    assert!(consumer.credit_due().is_some());
}

#[test]
fn items_without_credit_are_told() {
    let mut by_items = Consumer::new(WINDOW);
    for _ in 0..4 {
        by_items.on_items(item(1)).unwrap();
    }
    assert!(by_items.on_items(item(1)).is_err());
    let mut by_bytes = Consumer::new(WINDOW);
    by_bytes.on_item_begin(1_000).unwrap();
    by_bytes.on_item_end(vec![0; 1_000].into()).unwrap();
    assert!(by_bytes.on_items(item(0)).is_err());
}

#[test]
fn copies_stay_in_line() {
    let mut consumer = Consumer::new(Window { items: 9, bytes: 100 });
    let copied = |consumer: &mut Consumer, frame: &'static [u8]| {
        let frames = Bytes::from_static(frame);
        let (range, mut size) = (0..frame.len(), RunSize::default());
        size.add(frame.len() - FRAME_HEADER_BYTES);
        let arrived = Arrived { stream: 1, frames: &frames, range, checked: false, size };
        consumer.on_items_to_copy(&arrived).unwrap();
    };
    consumer.on_items(Items::one("a".into())).unwrap();
    copied(&mut consumer, b"\0\0\x01\x04\0\0\0\x01b");
    copied(&mut consumer, b"\0\0\0\x04\0\0\0\x01");
    consumer.on_items(Items::one("c".into())).unwrap();
    copied(&mut consumer, b"\0\0\x01\x04\0\0\0\x01d");
    let mut batch = ItemBatch::new();
    consumer.take(&mut batch);
    assert!(batch.eq(["a", "b", "", "c", "d"]));
    assert!(!consumer.has_items());
}

#[test]
fn ends_must_fit() {
    let mut consumer = Consumer::new(WINDOW);
    consumer.on_items(item(1)).unwrap();
    assert!(end(&mut consumer, Terminal::Complete { items: 2 }, 2).is_err());
    consumer.on_item_begin(10).unwrap();
    assert!(end(&mut consumer, Terminal::Complete { items: 1 }, 1).is_err());
    let reason = sinew_plane::CancelReason::Caller;
    end(&mut consumer, Terminal::Cancelled { reason }, 1).unwrap();
    assert!(consumer.on_items(item(1)).is_err());
    assert!(end(&mut consumer, Terminal::Complete { items: 1 }, 1).is_err());
    consumer.on_lost();
    assert!(matches!(consumer.ended(), Some(Ended::Terminal(_))), "the first end stays");
}

#[test]
fn a_lost_carrier_takes_the_begun_item_back() {
    let mut consumer = Consumer::new(WINDOW);
    consumer.on_items(item(5)).unwrap();
    consumer.on_item_begin(60).unwrap();
    consumer.on_carrier_lost();
    let (next_item, credit) = consumer.attach();
    assert_eq!((next_item, credit.consumed), (1, 0));
    consumer.on_item_begin(60).unwrap();
    consumer.on_item_end(vec![0; 60].into()).unwrap();
    // 65 of 100 bytes are used; charged twice, the item would leave none.
    consumer.on_items(item(1)).unwrap();
    assert_eq!(consumer.received(), 3);
}

#[test]
fn the_newest_checkpoint_is_kept_and_covers_what_has_arrived() {
    let checkpoint = |items| Checkpoint { items, state: Bytes::from_static(b"state") };
    let mut consumer = Consumer::new(WINDOW);
    assert!(consumer.on_checkpoint(checkpoint(1)).is_err(), "no item has arrived");
    consumer.on_items(item(1)).unwrap();
    assert_eq!(consumer.on_checkpoint(checkpoint(1)), Ok(true));
    let waiting = consumer.queued_bytes();
    consumer.on_items(item(1)).unwrap();
    assert_eq!(consumer.on_checkpoint(checkpoint(2)), Ok(true));
    assert_eq!(consumer.queued_bytes(), waiting + 1, "in place of the one before");
    assert_eq!(consumer.on_checkpoint(checkpoint(2)), Ok(false));
    consumer.on_lost();
    assert_eq!(consumer.checkpoint(), Some(&checkpoint(2)), "for who continues the stream");
}

#[test]
fn a_consumer_that_begins_in_the_middle_counts_from_there() {
    let mut consumer = Consumer::new(WINDOW).beginning_at(40, WINDOW);
    assert_eq!(consumer.attach(), (40, Credit { consumed: 40, items: 4, bytes: 100 }));
    assert_eq!(consumer.head(), None, "it may still come");
    assert_eq!(consumer.on_head(headers("1")), Ok(true));
    for _ in 0..9 {
        // More than its own window: the consumer before may have granted it.
        consumer.on_items(item(1)).unwrap();
    }
    assert_eq!(take(&mut consumer), 9);
    assert_eq!(take(&mut consumer), 0);
    assert_eq!(consumer.credit_due().map(|credit| credit.consumed), Some(49));
    assert_eq!(end(&mut consumer, Terminal::Complete { items: 49 }, 49), Ok(()));
}

#[test]
fn a_consumer_that_begins_in_the_middle_takes_no_more_than_any_before_it_may_have_granted() {
    let most = Window { items: 300, bytes: 100_000 };
    let begun = |most| Consumer::new(WINDOW).beginning_at(40, most);
    let mut consumer = begun(most);
    for _ in 0..300 {
        consumer.on_items(item(1)).unwrap();
    }
    assert!(consumer.on_items(item(1)).is_err(), "more items");
    let mut consumer = begun(most);
    consumer.on_items(item(99_999)).unwrap();
    consumer.on_items(item(1)).unwrap();
    assert!(consumer.on_items(item(1)).is_err(), "more bytes");
    // What it consumes it grants anew, but no more than it would.
    let mut consumer = begun(most);
    for _ in 0..300 {
        consumer.on_items(item(1)).unwrap();
    }
    take(&mut consumer);
    take(&mut consumer);
    assert_eq!(consumer.credit_due().map(|credit| credit.consumed), Some(340));
    for _ in 0..WINDOW.items {
        consumer.on_items(item(1)).unwrap();
    }
    assert!(consumer.on_items(item(1)).is_err());
    // A producer keeps so much for a consumer, whatever its limit.
    let mut consumer = begun(WINDOW);
    for _ in 0..REPORT_AT_LATEST.items {
        consumer.on_items(item(1)).unwrap();
    }
    assert!(consumer.on_items(item(1)).is_err());
}

#[test]
fn a_consumer_may_begin_at_the_largest_number_of_an_item() {
    let mut consumer = Consumer::new(WINDOW).beginning_at(u64::MAX / 2, WINDOW);
    consumer.on_items(item(1)).unwrap();
    assert_eq!(consumer.received(), u64::MAX / 2 + 1);
    assert!(consumer.on_checkpoint(Checkpoint { items: u64::MAX, state: Bytes::new() }).is_err());
    assert!(end(&mut consumer, Terminal::Complete { items: u64::MAX }, u64::MAX).is_err());
}
