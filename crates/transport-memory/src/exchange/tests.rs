//! Rules of the module above, each on its own.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use sinew_plane::{BudgetUse, budget::Work};

use super::*;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct Rig {
    exchange: Arc<Exchange>,
    client: Arc<Streams>,
    server: Arc<Streams>,
}

fn rig(items: u32, bytes: u32) -> Rig {
    rig_with(MemoryConfig { max_message_bytes: 100, ..MemoryConfig::default() }, items, bytes)
}

fn rig_with(config: MemoryConfig, items: u32, bytes: u32) -> Rig {
    let [client, server] = [(); 2].map(|()| Arc::new(Streams::new(10)));
    let [a, b] = [&client, &server].map(|end| end.enter(Weak::new()).unwrap());
    let exchange = Exchange::new(Context::new(), &config, Window { items, bytes }, a, b);
    exchange.context.on_cancel(Arc::downgrade(&exchange));
    Rig { exchange, client, server }
}

impl Rig {
    fn send(&self, item: &'static str) -> Result<(), TrySendError> {
        self.exchange.try_send(Bytes::from_static(item.as_bytes()))
    }

    fn poll(&self, cx: &mut task::Context<'_>) -> (Vec<Bytes>, Poll<SourceEvent>) {
        let mut batch = ItemBatch::new();
        let event = self.exchange.poll_batch(cx, &mut batch);
        (batch.collect(), event)
    }
}

fn waker() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken::default());
    (Arc::clone(&woken), Waker::from(woken))
}

#[test]
fn credit_comes_back_when_the_reader_comes_back() {
    let rig = rig(2, 1000);
    let (woken, waker) = waker();
    let mut cx = task::Context::from_waker(&waker);
    rig.send("a").unwrap();
    rig.send("b").unwrap();
    assert!(matches!(rig.send("c"), Err(TrySendError::Full(item)) if item == "c"));
    assert!(rig.exchange.poll_ready(&mut cx).is_pending());

    let (items, _) = rig.poll(&mut task::Context::from_waker(Waker::noop()));
    assert_eq!(items, ["a", "b"]);
    assert!(matches!(rig.send("c"), Err(TrySendError::Full(_))), "taken is not consumed");
    assert_eq!(woken.times(), 0);

    assert!(rig.poll(&mut task::Context::from_waker(Waker::noop())).1.is_pending());
    assert_eq!(woken.times(), 1);
    rig.send("c").unwrap();
}

#[test]
fn the_first_terminal_stands_and_nothing_follows_it() {
    let rig = rig(10, 1000);
    let mut cx = task::Context::from_waker(Waker::noop());
    rig.send("a").unwrap();
    rig.exchange.finish(Terminal::Complete { items: 1 });
    rig.exchange.finish(Terminal::Failed { error: Error::handler("late") });
    assert!(matches!(rig.send("b"), Err(TrySendError::Closed(_))));
    assert!(matches!(rig.exchange.poll_ready(&mut cx), Poll::Ready(Err(_))));
    assert!(!rig.exchange.cut(CancelReason::Shutdown), "an ended stream cannot be cut");

    assert_eq!(rig.poll(&mut cx).0, ["a"]);
    for _ in 0..2 {
        let (items, event) = rig.poll(&mut cx);
        assert!(items.is_empty());
        let complete = SourceEvent::Ended(Terminal::Complete { items: 1 });
        assert_eq!(format!("{event:?}"), format!("{:?}", Poll::Ready(complete)));
    }
}

#[test]
fn a_kill_frees_a_parked_producer_and_a_stop_does_not() {
    let rig = rig(1, 1000);
    let (woken, waker) = waker();
    let mut cx = task::Context::from_waker(&waker);
    rig.send("a").unwrap();
    assert!(rig.exchange.poll_ready(&mut cx).is_pending());
    rig.exchange.cancel(StopKind::Stop);
    assert!(rig.exchange.context.is_stopped());
    assert_eq!(woken.times(), 0);

    // By the handler's own context, as a deadline would.
    rig.exchange.context.cancel(StopKind::Kill, CancelReason::DeadlineExceeded);
    assert_eq!(woken.times(), 1);
    let Poll::Ready(Err(error)) = rig.exchange.poll_ready(&mut cx) else {
        panic!("a killed stream takes nothing")
    };
    // The first reason is the one that is kept: the caller's stop.
    assert_eq!(error.code(), Code::Cancelled);
}

#[test]
fn an_abandoned_stream_holds_no_items_and_runs_at_its_server_until_it_ends() {
    let rig = rig(10, 1000);
    rig.send("a").unwrap();
    rig.exchange.abandon();
    assert!(rig.exchange.context.is_killed());
    assert!(rig.exchange.state.lock().items.is_empty());
    assert!(matches!(rig.send("b"), Err(TrySendError::Closed(_))));
    assert_eq!(cut(&rig.client, CancelReason::Disconnected).cut_streams, 0);
    assert_eq!(cut(&rig.server, CancelReason::Shutdown).cut_streams, 1);
}

#[test]
fn a_cut_is_a_lost_request_before_the_handler_began_and_truncated_after() {
    for (begin, code) in [(false, Code::ConnectionLost), (true, Code::Truncated)] {
        let rig = rig(10, 1000);
        if begin {
            rig.exchange.accept();
        }
        let (woken, waker) = waker();
        let mut cx = task::Context::from_waker(&waker);
        assert!(rig.poll(&mut cx).1.is_pending());
        assert!(rig.exchange.cut(CancelReason::Shutdown));
        assert_eq!(woken.times(), 1);
        let Poll::Ready(SourceEvent::Lost(error)) = rig.poll(&mut cx).1 else {
            panic!("a cut stream is lost")
        };
        assert_eq!(error.code(), code);
        assert!(!error.is_safe_to_resend());
        assert_eq!(rig.exchange.context.reason(), Some(CancelReason::Shutdown));
    }
}

#[test]
fn a_stream_that_is_cut_while_it_enters_begins_as_a_cut_one() {
    for (is_client, reason) in [(true, CancelReason::Disconnected), (false, CancelReason::Shutdown)]
    {
        let [client, server] = [(); 2].map(|()| Arc::new(Streams::new(10)));
        let [a, b] = [&client, &server].map(|end| end.enter(Weak::new()).unwrap());
        cut(if is_client { &client } else { &server }, reason);
        let window = Window { items: 1, bytes: 1 };
        let exchange = Exchange::new(Context::new(), &MemoryConfig::default(), window, a, b);
        assert_eq!(exchange.context.reason(), Some(reason));
        assert_eq!((client.count(), server.count()), (0, 0));
        exchange.finish(Terminal::Failed { error: Error::handler("nobody hears this") });
        assert_eq!((client.count(), server.count()), (0, 0));
    }
}

#[test]
fn an_item_over_the_limit_is_refused_and_the_stream_goes_on() {
    let rig = rig(10, 1000);
    let Err(TrySendError::Closed(error)) = rig.exchange.try_send(vec![0; 101].into()) else {
        panic!("101 bytes are over the limit of 100")
    };
    assert_eq!(error.code(), Code::TooLarge);
    rig.exchange.try_send(vec![0; 100].into()).unwrap();
}

/// 40 KiB wait in a stream with a budget of 4 MiB.
fn charged() -> (Arc<Budget>, Rig) {
    let budget = Budget::new(4 << 20);
    let config = MemoryConfig { budget: Some(Arc::clone(&budget)), ..MemoryConfig::default() };
    let rig = rig_with(config, 100, 1 << 20);
    for kib in 1..=4 {
        rig.exchange.try_send(Bytes::from(vec![7; 10 << 10])).unwrap();
        let charged = budget.used(BudgetUse::Queued);
        assert_eq!(charged, if kib == 1 { 0 } else { kib * (10 << 10) });
    }
    (budget, rig)
}

#[test]
fn what_waits_beyond_a_little_counts_in_the_budget_until_it_is_taken() {
    let (budget, rig) = charged();
    let mut cx = task::Context::from_waker(Waker::noop());
    assert_eq!(rig.poll(&mut cx).0.len(), 4);
    assert_eq!(budget.total(), 0);

    let (budget, rig) = charged();
    rig.exchange.abandon();
    assert_eq!(budget.total(), 0);

    let (budget, rig) = charged();
    rig.exchange.finish(Terminal::Complete { items: 4 });
    assert_ne!(budget.total(), 0, "it is still to be read");
    drop(rig);
    assert_eq!(budget.total(), 0);
}

#[test]
fn a_stream_goes_on_without_room_in_the_budget() {
    let (budget, rig) = charged();
    let others: Vec<_> = (0..3)
        .map(|_| budget.open().hold(BudgetUse::Kept, budget.share(), Work::Running).unwrap())
        .collect();
    let rest = budget.limit() - budget.total();
    let _rest = budget.open().hold(BudgetUse::Kept, rest, Work::Running).unwrap();
    rig.exchange.try_send(Bytes::from(vec![7; 10 << 10])).unwrap();
    assert_eq!(budget.used(BudgetUse::Queued), 40 << 10);
    let mut cx = task::Context::from_waker(Waker::noop());
    assert_eq!(rig.poll(&mut cx).0.len(), 5);
    assert_eq!(budget.used(BudgetUse::Queued), 0);
    drop(others);
}
