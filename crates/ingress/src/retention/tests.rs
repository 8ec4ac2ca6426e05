//! What readers of a retained response get.

mod budget;
mod model;

use std::{sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::{
    BudgetUse, CancelReason, Code, Context, Error, Headers, IncomingRequest, InstanceId, PeerFacts,
    ProcessId, ResumeToken, SinkTarget, StopKind, Terminal, TransportId, TrySendError,
};
use tokio::{sync::Notify, time::timeout};

use super::*;

const SECRET: u64 = 7;
const GUARD: Duration = Duration::from_secs(20);
const RETAIN: Retain = Retain { items: 10, bytes: 1 << 20, time: Duration::from_secs(60) };

/// The far end of one reader, with a window.
#[derive(Default)]
struct Far {
    state: Mutex<FarState>,
    changed: Notify,
}

#[derive(Default)]
struct FarState {
    items: Vec<Bytes>,
    credit: usize,
    acknowledged: u64,
    waker: Option<std::task::Waker>,
    head: Option<Headers>,
    facts: Headers,
    checkpoint: Option<u64>,
    end: Option<Terminal>,
    lost: bool,
}

impl Far {
    fn new(credit: usize) -> Arc<Self> {
        let far = Arc::new(Self::default());
        far.state.lock().credit = credit;
        far
    }

    /// Acknowledges what is there, and gives credit.
    fn grant(&self, more: usize) {
        {
            let mut state = self.state.lock();
            state.acknowledged = state.items.len() as u64;
        }
        self.give(more);
    }

    fn give(&self, credit: usize) {
        let waker = {
            let mut state = self.state.lock();
            state.credit += credit;
            state.waker.take()
        };
        waker.into_iter().for_each(std::task::Waker::wake);
    }

    async fn until<T>(&self, what: impl Fn(&FarState) -> Option<T>) -> T {
        let waited = async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = what(&self.state.lock()) {
                    return found;
                }
                changed.await;
            }
        };
        timeout(GUARD, waited).await.expect("the reader gets what it waits for")
    }

    async fn has(&self, count: usize) {
        self.until(|state| (state.items.len() >= count).then_some(())).await;
    }

    async fn end(&self) -> Terminal {
        self.until(|state| state.end.clone()).await
    }

    fn numbers(&self) -> Vec<u64> {
        let number = |item: &Bytes| std::str::from_utf8(item).unwrap().parse().unwrap();
        self.state.lock().items.iter().map(number).collect()
    }

    fn change(&self, change: impl FnOnce(&mut FarState)) {
        change(&mut self.state.lock());
        self.changed.notify_waiters();
    }
}

impl SinkTarget for Far {
    fn poll_ready(&self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state.lock();
        if state.lost {
            return Poll::Ready(Err(Error::new(Code::ConnectionLost, "lost")));
        }
        if state.credit > 0 {
            return Poll::Ready(Ok(()));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        let mut state = self.state.lock();
        if state.lost {
            return Err(TrySendError::Closed(Error::new(Code::ConnectionLost, "lost")));
        }
        if state.credit == 0 {
            return Err(TrySendError::Full(item));
        }
        state.credit -= 1;
        state.items.push(item);
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    fn acknowledged(&self) -> Option<u64> {
        Some(self.state.lock().acknowledged)
    }

    fn head(&self, head: Headers) {
        self.change(|state| state.head = Some(head));
    }

    fn set_facts(&self, facts: Headers) {
        self.change(|state| state.facts = facts);
    }

    fn checkpoint(&self, checkpoint: sinew_plane::Checkpoint) {
        self.change(|state| state.checkpoint = Some(checkpoint.items));
    }

    fn accept(&self) {}

    fn finish(&self, terminal: Terminal) {
        self.change(|state| {
            state.end.get_or_insert(terminal);
        });
    }

    fn flush(&self) {}
}

/// A retained response with its first reader.
struct World {
    retention: Arc<Retention>,
    tasks: TaskTracker,
    caller: Context,
    first: Arc<Far>,
    handler: Context,
    sink: ResponseSink,
}

impl World {
    fn new(retain: Retain, credit: usize) -> Self {
        Self::within(None, retain, credit)
    }

    fn within(budget: Option<&Arc<Budget>>, retain: Retain, credit: usize) -> Self {
        Self::among(&Retention::new(budget), retain, credit)
    }

    /// One of several responses.
    fn among(retention: &Arc<Retention>, retain: Retain, credit: usize) -> Self {
        let (retention, tasks) = (Arc::clone(retention), TaskTracker::new());
        let (caller, first) = (Context::new(), Far::new(credit));
        let sink = ResponseSink::new(first.clone(), caller.clone());
        let request = (caller.clone(), SECRET);
        let (handler, sink) = retention.retain(retain, request, sink, |_| (), &tasks);
        Self { retention, tasks, caller, first, handler, sink }
    }

    fn attach(&self, next_item: u64, credit: usize) -> (Arc<Far>, Context) {
        self.attach_with(SECRET, next_item, credit)
    }

    fn attach_with(&self, secret: u64, next_item: u64, credit: usize) -> (Arc<Far>, Context) {
        let (caller, worker) = (ProcessId(1), ProcessId(2));
        let token = ResumeToken { stream: self.caller.id(), secret, caller, worker, next_item };
        self.ask(&token.to_string(), credit)
    }

    fn ask(&self, body: &str, credit: usize) -> (Arc<Far>, Context) {
        let (far, context) = (Far::new(credit), Context::new());
        let sink = ResponseSink::new(far.clone(), context.clone());
        let transport = TransportId::from_static("test");
        let request = IncomingRequest {
            endpoint: ResumeToken::ENDPOINT,
            instance: InstanceId(0),
            body: body.to_owned().into(),
            context: context.clone(),
            transport: &transport,
            peer: &PeerFacts::UNKNOWN,
            attempt: 0,
            secret: 0,
        };
        self.retention.resume(&request, sink, (), &self.tasks);
        (far, context)
    }

    async fn send(&mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let sending = self.sink.send(number.to_string().into());
            timeout(GUARD, sending).await.expect("the handler goes on").unwrap();
        }
    }

    /// The handler ends the response, and the caller gets all of it.
    async fn complete(self) -> Self {
        let Self { retention, tasks, caller, first, handler, sink } = self;
        sink.complete();
        first.end().await;
        let sink = ResponseSink::new(Far::new(0), Context::new());
        Self { retention, tasks, caller, first, handler, sink }
    }

    async fn close(self) {
        self.retention.close();
        self.tasks.close();
        timeout(GUARD, self.tasks.wait()).await.expect("all readers end");
    }
}

/// Lets time pass, and those run that waited for it.
async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

fn window(terminal: &Terminal) -> Option<(u64, u64)> {
    match terminal {
        Terminal::Failed { error } => error.resume_window(),
        _ => None,
    }
}

#[tokio::test]
async fn several_readers_get_all_of_it_from_where_they_ask() {
    let mut world = World::new(Retain { items: 1_000, ..RETAIN }, 1_000);
    let mut head = Headers::new();
    head.insert("model", "m").unwrap();
    world.sink.head(head.clone()).unwrap();
    world.send(0..10).await;
    world.first.has(10).await;
    let (from_begin, _) = world.attach(0, 1_000);
    let (from_middle, _) = world.attach(7, 1_000);
    from_begin.has(10).await;
    world.send(10..20).await;
    world.sink.checkpoint("state").unwrap();
    world.send(20..30).await;
    let mut facts = Headers::new();
    facts.insert("cost", "3").unwrap();
    let World { sink, first, .. } = world;
    sink.complete_with(facts.clone());
    for (far, begin) in [(&first, 0), (&from_begin, 0), (&from_middle, 7)] {
        assert!(matches!(far.end().await, Terminal::Complete { .. }));
        assert_eq!(far.numbers(), (begin..30).collect::<Vec<_>>());
        let state = far.state.lock();
        assert_eq!((state.head.as_ref(), &state.facts), (Some(&head), &facts));
        // In the numbers of this reader's own stream.
        assert_eq!(state.checkpoint, Some(21 - begin));
    }
}

#[tokio::test]
async fn a_response_that_has_ended_is_read_until_its_time_is_over() {
    tokio::time::pause();
    let mut world = World::new(RETAIN, 1_000);
    world.send(0..5).await;
    world.first.has(5).await;
    let world = world.complete().await;
    let (late, _) = world.attach(2, 1_000);
    assert!(matches!(late.end().await, Terminal::Complete { .. }));
    assert_eq!(late.numbers(), [2, 3, 4]);
    pass(RETAIN.time + Duration::from_secs(1)).await;
    let (too_late, _) = world.attach(2, 1_000);
    assert!(
        matches!(too_late.end().await, Terminal::Failed { error } if error.code() == Code::ResumeExpired)
    );
    assert_eq!(world.tasks.len(), 0, "nothing is left of it");
}

#[tokio::test]
async fn what_is_gone_is_named_and_a_wrong_secret_says_nothing() {
    let mut world = World::new(RETAIN, 1_000);
    world.send(0..100).await;
    world.first.has(100).await;
    world.first.grant(0);
    world.send(100..101).await;
    world.first.has(101).await;
    let (far, _) = world.attach(3, 1_000);
    let (oldest, newest) = window(&far.end().await).expect("it says what is there");
    assert!((89..=91).contains(&oldest) && newest == 101, "{oldest} {newest}");
    let (there, _) = world.attach(oldest, 1_000);
    there.has(101 - oldest as usize).await;
    let (beyond, _) = world.attach(500, 1_000);
    assert_eq!(window(&beyond.end().await).map(|it| it.1), Some(101));
    for most in [u64::MAX, u64::MAX - 1, u64::MAX / 2] {
        let (beyond, _) = world.attach(most, 1_000);
        assert_eq!(window(&beyond.end().await).map(|it| it.1), Some(101));
    }
    // They have read nothing, so the others lose nothing by them.
    world.send(101..130).await;
    world.first.has(130).await;
    there.has(130 - oldest as usize).await;
    assert_eq!(world.first.numbers(), (0..130).collect::<Vec<_>>());
    assert!(world.first.state.lock().end.is_none() && there.state.lock().end.is_none());
    let (stranger, _) = world.attach_with(SECRET + 1, 100, 1_000);
    assert_eq!(window(&stranger.end().await), None);
    let (garbled, _) = world.ask("s1-what", 1);
    let refused = |end: &Terminal| matches!(end, Terminal::Failed { error } if error.code() == Code::InvalidPayload);
    assert!(refused(&garbled.end().await));
    world.close().await;
}

#[tokio::test]
async fn a_slow_reader_slows_nobody() {
    let mut world = World::new(RETAIN, 0);
    let (fast, _) = world.attach(0, usize::MAX / 2);
    for begin in (0..5_000).step_by(500) {
        world.send(begin..begin + 500).await;
        fast.has(begin as usize + 500).await;
        fast.grant(0);
    }
    assert_eq!(fast.numbers(), (0..5_000).collect::<Vec<_>>());
    assert!(world.first.numbers().is_empty());
    // The slow one falls back to what is retained. Its next item is not, and it hears so although it
    // takes nothing.
    assert!(window(&world.first.end().await).is_some());
    assert!(!world.handler.is_stopped(), "others read on");
    world.close().await;
}

#[tokio::test]
async fn a_handler_is_no_more_than_a_window_ahead_of_its_readers() {
    let mut world = World::new(RETAIN, 0);
    world.send(0..1_024).await;
    let full = world.sink.try_send("x".into());
    assert!(matches!(full, Err(TrySendError::Full(_))));
    world.first.grant(1);
    world.send(1_024..1_025).await;
    world.handler.kill();
    let sending = timeout(GUARD, world.sink.send("x".into())).await.unwrap();
    assert_eq!(sending.unwrap_err().code(), Code::Cancelled);
    world.close().await;
}

#[tokio::test]
async fn the_loss_of_the_caller_ends_nothing_while_somebody_may_come() {
    tokio::time::pause();
    let mut world = World::new(RETAIN, 10);
    world.send(0..5).await;
    world.first.has(5).await;
    world.first.state.lock().lost = true;
    world.caller.cancel(StopKind::Kill, CancelReason::Disconnected);
    pass(RETAIN.time / 2).await;
    let (second, context) = world.attach(5, 1_000);
    world.send(5..8).await;
    second.has(3).await;
    pass(RETAIN.time * 2).await;
    assert!(!world.handler.is_stopped(), "somebody reads");
    context.cancel(StopKind::Kill, CancelReason::Caller);
    assert!(matches!(second.end().await, Terminal::Cancelled { .. }));
    assert!(!world.handler.is_stopped(), "a reader that leaves ends its own reading alone");
    pass(RETAIN.time + Duration::from_secs(1)).await;
    assert_eq!(world.handler.reason(), Some(CancelReason::Disconnected));
    world.close().await;
}

#[tokio::test]
async fn the_cancel_of_the_caller_ends_the_response_for_all() {
    let mut world = World::new(RETAIN, 10);
    world.send(0..5).await;
    let (second, _) = world.attach(0, 1_000);
    second.has(5).await;
    world.caller.cancel(StopKind::Stop, CancelReason::Caller);
    assert!(world.handler.is_stopped() && !world.handler.is_killed());
    let World { sink, .. } = world;
    sink.cancelled(CancelReason::Caller);
    assert!(matches!(second.end().await, Terminal::Cancelled { .. }));
}

#[tokio::test]
async fn a_reader_hears_that_the_process_shuts_down() {
    let mut world = World::new(RETAIN, 10);
    world.send(0..5).await;
    let (reader, _) = world.attach(0, 1_000);
    reader.has(5).await;
    world.close().await;
    let end = reader.end().await;
    assert!(matches!(end, Terminal::Cancelled { reason: CancelReason::Shutdown }), "{end:?}");
}

#[tokio::test]
async fn a_response_with_the_id_of_another_takes_nothing_from_it() {
    tokio::time::pause();
    let mut world = World::new(RETAIN, 1_000);
    let sinks = [SECRET + 1, SECRET].map(|secret| {
        let sink = ResponseSink::new(Far::new(1_000), Context::new());
        let request = (world.caller.clone(), secret);
        world.retention.retain(RETAIN, request, sink, |_| (), &world.tasks).1
    });
    let [mut stranger, mut later] = sinks;
    stranger.send("1".into()).await.unwrap();
    later.send("2".into()).await.unwrap();
    world.send(0..1).await;
    let world = world.complete().await;
    // The earlier one of the same caller goes, and the later one stays.
    pass(RETAIN.time * 2).await;
    for (secret, number) in [(SECRET + 1, 1), (SECRET, 2)] {
        let (reader, _) = world.attach_with(secret, 0, 1_000);
        reader.has(1).await;
        assert_eq!(reader.numbers(), [number]);
    }
    world.close().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_not_waited_for_longer_than_the_response_is_kept() {
    tokio::time::pause();
    let mut world = World::new(RETAIN, 0);
    world.send(0..5).await;
    let (idle, _) = world.attach(0, 0);
    let (slow, _) = world.attach(0, 1);
    for number in 1..4 {
        pass(RETAIN.time / 2).await;
        slow.give(1);
        slow.has(number).await;
    }
    let end = idle.end().await;
    assert!(
        matches!(&end, Terminal::Failed { error } if error.code() == Code::Exhausted),
        "{end:?}"
    );
    let others = [&slow, &world.first].map(|it| it.state.lock().end.is_none());
    assert_eq!(others, [true; 2], "one takes items, and the other is the caller");
    world.close().await;
}
