//! Rules of the module above, each on its own.

use super::*;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader};

const WINDOW: Window = Window { items: 3, bytes: 10 };

fn item(len: usize) -> Bytes {
    Bytes::from(vec![b'x'; len])
}

fn credit(consumed: u64) -> Credit {
    Credit { consumed, items: WINDOW.items, bytes: WINDOW.bytes }
}

#[test]
fn items_and_bytes_are_both_bounded() {
    let mut by_items = Producer::new(WINDOW);
    for _ in 0..3 {
        by_items.push(item(1)).unwrap();
    }
    assert_eq!(by_items.push(item(1)), Err(PushError::Full(item(1))));

    let mut by_bytes = Producer::new(WINDOW);
    by_bytes.push(item(9)).unwrap();
    by_bytes.push(item(1_000)).unwrap(); // may start: 9 of 10 are used
    assert_eq!(by_bytes.push(item(0)), Err(PushError::Full(item(0))));
}

#[test]
fn credit_frees_and_grants_and_never_goes_back() {
    let mut producer = Producer::new(WINDOW);
    let mut outbox = Outbox::default();
    for _ in 0..3 {
        producer.push(item(1)).unwrap();
    }
    assert!(producer.on_credit(credit(1)).is_err(), "nothing was sent yet");
    producer.poll_frame(1, &mut outbox);
    assert_eq!(producer.on_credit(credit(2)), Ok(true));
    assert_eq!(producer.kept(), 1);
    assert_eq!(producer.on_credit(credit(1)), Ok(false), "an old one is ignored");
    let shrunk = Credit { consumed: 2, items: 0, bytes: 0 };
    assert_eq!(producer.on_credit(shrunk), Ok(false));
    producer.push(item(1)).unwrap();
    producer.push(item(1)).unwrap();
    assert!(!producer.is_ready());
}

#[test]
fn a_consumer_that_comes_back_gets_what_it_lacks() {
    let mut producer = Producer::new(WINDOW);
    let mut outbox = Outbox::default();
    for _ in 0..3 {
        producer.push(item(2)).unwrap();
    }
    producer.finish(Terminal::Complete { items: 3 });
    assert_eq!(producer.poll_frame(1, &mut outbox), PollFrame::Ended);
    producer.on_carrier_lost();
    assert!(!producer.has_output(), "nowhere to send to");
    producer.on_attach(1, credit(1)).unwrap();
    assert_eq!(producer.kept(), 2);
    outbox.take_batch();
    assert_eq!(producer.poll_frame(7, &mut outbox), PollFrame::Ended);
    let bytes: Vec<u8> = outbox.take_batch().parts().flatten().copied().collect();
    let items = bytes.windows(2).filter(|pair| pair == b"xx").count();
    assert_eq!(items, 2);
}

fn headers(value: &str) -> Headers {
    let mut headers = Headers::new();
    headers.insert("a", value).unwrap();
    headers
}

/// The kinds of the frames that a poll writes.
fn written(producer: &mut Producer) -> (PollFrame, Vec<u8>) {
    let mut outbox = Outbox::default();
    let polled = producer.poll_frame(1, &mut outbox);
    let bytes: Vec<u8> = outbox.take_batch().parts().flatten().copied().collect();
    let (mut kinds, mut rest) = (Vec::new(), &bytes[..]);
    while let Some(header) = FrameHeader::read(rest) {
        kinds.push(header.kind);
        rest = &rest[FRAME_HEADER_BYTES + header.len..];
    }
    (polled, kinds)
}

const HEAD: u8 = Kind::Head as u8;
const ITEM: u8 = Kind::Item as u8;
const COMPLETE: u8 = Kind::Complete as u8;

#[test]
fn a_head_goes_first_and_makes_an_accept_needless() {
    let mut producer = Producer::new(WINDOW);
    producer.accept();
    producer.set_head(headers("1"));
    producer.set_head(headers("2"));
    producer.push(item(1)).unwrap();
    assert_eq!(written(&mut producer), (PollFrame::Idle, vec![HEAD, ITEM]));
    assert!(!producer.has_output());
    producer.set_head(headers("3"));
    assert!(!producer.has_output(), "an item went before it");

    let mut late = Producer::new(WINDOW);
    late.push(item(1)).unwrap();
    late.set_head(headers("1"));
    assert_eq!(written(&mut late).1, [ITEM]);
    late.finish(Terminal::Complete { items: 1 });
    late.set_facts(headers("1"));
    assert_eq!(late.kept_bytes(), 1 + ITEM_COST_BYTES, "nothing follows the end");
}

#[test]
fn a_head_is_sent_again_to_a_consumer_that_has_no_item() {
    let mut producer = Producer::new(WINDOW);
    producer.set_head(headers("1"));
    producer.set_facts(headers("22"));
    assert!(!producer.may_reject());
    assert_eq!(producer.kept_bytes(), 5 + 6);
    assert_eq!(written(&mut producer).1, [HEAD]);
    producer.on_carrier_lost();
    producer.push(item(1)).unwrap();
    producer.push(item(1)).unwrap();
    producer.on_attach(0, credit(0)).unwrap();
    assert_eq!(written(&mut producer).1, [HEAD, ITEM, ITEM]);
    // The one with an item has the head, too.
    producer.on_carrier_lost();
    producer.on_attach(1, credit(0)).unwrap();
    assert_eq!(written(&mut producer).1, [ITEM]);
    // An acknowledged item acknowledges the head.
    producer.on_credit(credit(1)).unwrap();
    assert_eq!(producer.kept_bytes(), 1 + ITEM_COST_BYTES + 6);
    producer.finish(Terminal::Complete { items: 2 });
    assert_eq!(written(&mut producer), (PollFrame::Ended, vec![COMPLETE]));
    producer.on_carrier_lost();
    producer.on_attach(1, credit(1)).unwrap();
    assert_eq!(written(&mut producer).1, [ITEM, COMPLETE]);
    assert_eq!(producer.kept_bytes(), 1 + ITEM_COST_BYTES + 6, "the facts go with each end");
    producer.abandon(Error::handler("evicted"));
    assert_eq!(producer.kept_bytes(), 0);
}

#[test]
fn a_head_waits_for_room_and_goes_after_no_kill() {
    let mut producer = Producer::new(WINDOW);
    producer.set_head(headers("1"));
    let mut outbox = Outbox::default();
    while outbox.has_room() {
        outbox.payload(Kind::Item, 3, b"", &item(CHUNK_BYTES));
    }
    producer.finish(Terminal::Complete { items: 0 });
    assert_eq!(producer.poll_frame(1, &mut outbox), PollFrame::More, "the end goes behind it");
    producer.discard_unsent(CancelReason::Caller);
    assert_eq!(producer.poll_frame(1, &mut outbox), PollFrame::Ended);
}

#[test]
fn impossible_attaches_are_told() {
    let mut producer = Producer::new(WINDOW);
    let mut outbox = Outbox::default();
    for _ in 0..3 {
        producer.push(item(1)).unwrap();
    }
    producer.poll_frame(1, &mut outbox);
    producer.on_credit(credit(2)).unwrap();
    assert!(producer.on_attach(1, credit(1)).is_err(), "behind the acknowledged");
    assert!(producer.on_attach(4, credit(2)).is_err(), "beyond the sent");
    assert!(producer.on_attach(2, credit(3)).is_err(), "consumed more than received");
    for beyond in [u64::MAX, u64::MAX - 1, u64::from(u32::MAX)] {
        assert!(producer.on_attach(beyond, credit(beyond)).is_err());
        assert!(producer.on_attach(beyond, credit(2)).is_err());
        assert!(producer.on_attach(2, credit(beyond)).is_err());
        assert!(producer.on_credit(credit(beyond)).is_err());
    }
    assert!(producer.on_attach(2, credit(2)).is_ok());
}

#[test]
fn large_items_take_turns() {
    let mut producer = Producer::new(Window { items: 2, bytes: 1 << 20 });
    let mut outbox = Outbox::default();
    producer.push(item(CHUNK_BYTES * 2 + 1)).unwrap();
    assert_eq!(producer.poll_frame(1, &mut outbox), PollFrame::More);
    assert_eq!(producer.poll_frame(1, &mut outbox), PollFrame::More);
    assert_eq!(producer.poll_frame(1, &mut outbox), PollFrame::Idle);
}

/// The terminal as it was written: its kind and its count of items.
fn end(producer: &mut Producer) -> (u8, u64) {
    let mut outbox = Outbox::default();
    assert!(producer.has_output());
    assert_eq!(producer.poll_frame(1, &mut outbox), PollFrame::Ended);
    let bytes: Vec<u8> = outbox.take_batch().parts().flatten().copied().collect();
    (bytes[3], u64::from_be_bytes(*bytes[8..].first_chunk().unwrap()))
}

#[test]
fn a_kill_drops_what_is_not_sent() {
    let mut producer = Producer::new(Window { items: 9, bytes: 1 << 20 });
    let mut outbox = Outbox::default();
    producer.push(item(CHUNK_BYTES + 1)).unwrap();
    producer.push(item(1)).unwrap();
    producer.poll_frame(1, &mut outbox);
    producer.discard_unsent(CancelReason::Caller);
    assert_eq!((producer.pushed(), producer.kept()), (0, 0));
    assert!(!producer.is_ready());
    assert_eq!(producer.push(item(1)), Err(PushError::Ended));
    assert!(!producer.has_output(), "the item in hand is not gone on with");
}

#[test]
fn what_a_kill_cut_is_never_complete() {
    for sent in [0, 1] {
        for declared_before in [false, true] {
            let mut producer = Producer::new(WINDOW);
            for _ in 0..sent {
                producer.push(item(1)).unwrap();
                producer.poll_frame(1, &mut Outbox::default());
            }
            // Of no bytes: what counts is the item.
            producer.push(item(0)).unwrap();
            let complete = Terminal::Complete { items: producer.pushed() };
            if declared_before {
                producer.finish(complete.clone());
            }
            producer.discard_unsent(CancelReason::Caller);
            producer.finish(complete);
            assert!(producer.is_finished());
            assert_eq!(end(&mut producer), (Kind::Cancelled as u8, sent));
        }
    }
}

#[test]
fn a_kill_that_cuts_nothing_changes_nothing() {
    let mut producer = Producer::new(WINDOW);
    producer.push(item(1)).unwrap();
    producer.poll_frame(1, &mut Outbox::default());
    producer.discard_unsent(CancelReason::Caller);
    producer.push(item(1)).unwrap();
    producer.finish(Terminal::Complete { items: 2 });
    producer.poll_frame(1, &mut Outbox::default());
    producer.discard_unsent(CancelReason::Caller);
    producer.on_attach(0, credit(0)).unwrap();
    producer.poll_frame(1, &mut Outbox::default());
    assert_eq!((producer.pushed(), producer.has_output()), (2, false));
}

#[test]
fn a_cut_stream_that_failed_has_failed() {
    let mut producer = Producer::new(WINDOW);
    producer.push(item(1)).unwrap();
    producer.discard_unsent(CancelReason::Caller);
    let error = sinew_plane::Error::new(sinew_plane::Code::HandlerFailed, "of its own");
    producer.finish(Terminal::Failed { error });
    assert_eq!(end(&mut producer), (Kind::Failed as u8, 0));
}

#[test]
fn nothing_is_left_behind_a_terminal() {
    let mut producer = Producer::new(WINDOW);
    producer.accept();
    producer.finish(Terminal::Complete { items: 0 });
    assert_eq!(end(&mut producer), (Kind::Complete as u8, 0));
    assert!(!producer.has_output(), "the terminal took the place of the accept");
    assert_eq!(producer.poll_frame(1, &mut Outbox::default()), PollFrame::Idle);
}

/// Items of one byte that are taken now.
fn taken(producer: &mut Producer) -> usize {
    std::iter::repeat_with(|| producer.push(item(1))).take_while(Result::is_ok).count()
}

#[test]
fn a_limit_bounds_every_window() {
    let all = Window { items: u32::MAX, bytes: u32::MAX };
    let mut producer = Producer::new(all).with_limit(Window { items: 300, bytes: u32::MAX });
    assert_eq!(taken(&mut producer), 300);
    producer.poll_frame(1, &mut Outbox::default());
    let more = Credit { consumed: 0, items: u32::MAX, bytes: u32::MAX };
    assert_eq!(producer.on_credit(more), Ok(false));
    assert_eq!(taken(&mut producer), 0);
    assert_eq!(producer.on_credit(Credit { consumed: 120, ..more }), Ok(true));
    assert_eq!(taken(&mut producer), 120);

    let mut by_bytes = Producer::new(all).with_limit(Window { items: u32::MAX, bytes: 100_000 });
    by_bytes.push(item(99_999)).unwrap();
    by_bytes.push(item(50_000)).unwrap();
    assert!(!by_bytes.is_ready());
    by_bytes.poll_frame(1, &mut Outbox::default());
    by_bytes.poll_frame(1, &mut Outbox::default());
    assert_eq!(by_bytes.on_credit(Credit { consumed: 1, ..more }), Ok(true));
    by_bytes.push(item(50_000)).unwrap();
    assert!(!by_bytes.is_ready(), "100,000 beyond what is consumed");

    let mut small = Producer::new(WINDOW).with_limit(all);
    assert_eq!(taken(&mut small), 3, "a limit grants nothing");
}

#[test]
fn a_limit_leaves_what_a_consumer_waits_for() {
    let all = Window { items: u32::MAX, bytes: u32::MAX };
    let mut producer = Producer::new(all).with_limit(Window { items: 1, bytes: 1 });
    let mut consumer = crate::Consumer::new(all);
    let mut batch = sinew_plane::ItemBatch::new();
    for pushed in [taken(&mut producer), 0] {
        for _ in 0..pushed {
            consumer.on_items(crate::Items::one(item(1))).unwrap();
        }
        consumer.take(&mut batch);
    }
    producer.poll_frame(1, &mut Outbox::default());
    let credit = consumer.credit_due().unwrap();
    assert_eq!(producer.on_credit(credit), Ok(true));
    assert!(producer.is_ready());
}

#[test]
fn accept_is_told_once_and_not_when_an_item_tells_it() {
    let mut outbox = Outbox::default();
    let mut silent = Producer::new(WINDOW);
    silent.accept();
    silent.poll_frame(1, &mut outbox);
    silent.poll_frame(1, &mut outbox);
    assert_eq!(outbox.take_batch().remaining(), 8);
    let mut quick = Producer::new(WINDOW);
    quick.accept();
    quick.push(item(1)).unwrap();
    quick.poll_frame(1, &mut outbox);
    assert_eq!(outbox.take_batch().remaining(), 9);
    // Over a new carrier it is told again, for the first may be lost.
    silent.on_attach(0, credit(0)).unwrap();
    assert!(silent.has_output());
    silent.poll_frame(3, &mut outbox);
    assert_eq!(outbox.take_batch().remaining(), 8);
}

fn checkpoint(items: u64) -> Checkpoint {
    Checkpoint { items, state: Bytes::from_static(b"state") }
}

const CHECKPOINT: u8 = Kind::Checkpoint as u8;

#[test]
fn a_checkpoint_goes_behind_its_item_and_before_the_end() {
    let mut producer = Producer::new(WINDOW);
    producer.add_checkpoint(checkpoint(1));
    assert!(!producer.has_output(), "its item is still to come");
    producer.push(item(1)).unwrap();
    assert_eq!(written(&mut producer).1, [ITEM, CHECKPOINT]);
    producer.push(item(1)).unwrap();
    producer.add_checkpoint(checkpoint(2));
    producer.add_checkpoint(checkpoint(3));
    producer.finish(Terminal::Complete { items: 2 });
    assert_eq!(written(&mut producer).1, [ITEM, CHECKPOINT, COMPLETE], "item 3 never came");
    producer.add_checkpoint(checkpoint(4));
    assert_eq!(producer.kept_bytes(), 2 * (1 + ITEM_COST_BYTES) + 2 * 5, "nothing after the end");
}

#[test]
fn a_checkpoint_is_sent_again_to_a_consumer_that_attaches() {
    let mut producer = Producer::new(WINDOW);
    producer.add_checkpoint(checkpoint(1));
    (0..2).for_each(|_| producer.push(item(1)).unwrap());
    assert_eq!(written(&mut producer).1, [ITEM, ITEM, CHECKPOINT]);
    producer.on_carrier_lost();
    assert!(!producer.has_output());
    producer.on_attach(1, credit(1)).unwrap();
    assert_eq!(written(&mut producer).1, [ITEM, CHECKPOINT]);
    producer.on_carrier_lost();
    producer.on_attach(2, credit(2)).unwrap();
    assert_eq!(written(&mut producer).1, [CHECKPOINT], "its items are known, it may not be");
}

#[test]
fn no_checkpoint_goes_into_an_item_that_is_sent_in_part() {
    const BEGIN: u8 = Kind::ItemBegin as u8;
    const CANCELLED: u8 = Kind::Cancelled as u8;
    let window = Window { items: 9, bytes: u32::MAX };
    let mut producer = Producer::new(window);
    producer.add_checkpoint(checkpoint(1));
    producer.push(item(1)).unwrap();
    producer.push(item(CHUNK_BYTES + 1)).unwrap();
    assert_eq!(written(&mut producer).1, [ITEM, CHECKPOINT, BEGIN], "before the next item");
    // As a handler that gathers items attaches it.
    producer.add_checkpoint(checkpoint(1));
    producer.discard_unsent(CancelReason::Caller);
    assert_eq!(written(&mut producer), (PollFrame::Idle, vec![]));
    producer.finish(Terminal::Complete { items: 2 });
    assert_eq!(written(&mut producer).1, [CANCELLED], "with which the consumer drops its part");
    producer.on_carrier_lost();
    producer.on_attach(1, credit(0)).unwrap();
    assert_eq!(written(&mut producer).1, [CHECKPOINT, CANCELLED], "over another carrier it may");
}
