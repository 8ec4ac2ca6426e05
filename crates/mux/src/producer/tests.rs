//! Rules of the module above, each on its own.

use super::*;

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

#[test]
fn a_kill_drops_what_is_not_sent() {
    let mut producer = Producer::new(Window { items: 9, bytes: 1 << 20 });
    let mut outbox = Outbox::default();
    producer.push(item(CHUNK_BYTES + 1)).unwrap();
    producer.push(item(1)).unwrap();
    producer.poll_frame(1, &mut outbox);
    producer.discard_unsent();
    assert_eq!((producer.pushed(), producer.kept()), (0, 0));
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
}
