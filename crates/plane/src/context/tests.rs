//! How a cancel spreads, and what children have of their parent.

use std::sync::atomic::AtomicUsize;

use super::*;

#[test]
fn each_stream_of_a_context_has_an_id_of_its_own_and_the_first_that_of_the_request() {
    let context = Context::new();
    let first = context.take_stream_id();
    assert_eq!(first, context.id());
    context.return_stream_id(first);
    assert_eq!(context.take_stream_id(), first, "it was not opened");
    let second = context.take_stream_id();
    assert_ne!(second, first);
    context.return_stream_id(second);
    assert_ne!(context.take_stream_id(), first);
}

#[test]
fn a_kill_is_never_downgraded() {
    let context = Context::new();
    context.cancel(StopKind::Kill, CancelReason::DeadlineExceeded);
    context.stop();
    context.kill();
    assert!(context.is_killed() && context.is_stopped());
    assert_eq!(context.reason(), Some(CancelReason::DeadlineExceeded));
}

#[test]
fn a_stop_can_be_followed_by_a_kill() {
    let context = Context::new();
    context.stop();
    assert!(context.is_stopped() && !context.is_killed());
    context.kill();
    assert!(context.is_killed());
}

#[test]
fn children_follow_their_parent_and_not_the_other_way() {
    let parent = Context::builder().timeout(Duration::from_secs(60)).build();
    let (child, late);
    child = parent.child();
    assert_eq!(child.deadline(), parent.deadline());
    assert_ne!(child.id(), parent.id());
    child.stop();
    assert!(!parent.is_stopped());
    parent.kill();
    assert!(child.is_killed());
    late = parent.child();
    assert!(late.is_killed(), "a child of a killed parent is born killed");
}

#[derive(Default)]
struct Heard(AtomicUsize);

impl OnCancel for Heard {
    fn on_cancel(&self, _: StopKind, _: CancelReason) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn linked_contexts_end_together_whoever_is_cancelled() {
    let pair = || (Context::new(), Context::new());
    for first in [true, false] {
        let (a, b) = pair();
        a.link(&b);
        b.link(&a);
        let (one, other) = if first { (&a, &b) } else { (&b, &a) };
        one.cancel(StopKind::Stop, CancelReason::Shutdown);
        assert!(other.is_stopped() && !other.is_killed());
        one.kill();
        assert!(other.is_killed());
        assert_eq!(other.reason(), Some(CancelReason::Shutdown));
    }
    let (a, b) = pair();
    a.kill();
    a.link(&b);
    assert!(b.is_killed(), "late, and still told");
}

#[test]
fn listeners_hear_each_step_once_and_are_not_kept_alive() {
    let context = Context::new();
    let heard = Arc::new(Heard::default());
    context.on_cancel(Arc::downgrade(&heard));
    context.stop();
    context.stop();
    context.kill();
    assert_eq!(heard.0.load(Ordering::Relaxed), 2);
    assert_eq!(Arc::strong_count(&heard), 1);
    for _ in 0..1000 {
        context.on_cancel(Arc::downgrade(&Arc::new(Heard::default())));
    }
    assert!(context.0.listeners.lock().others.len() < 16, "dead listeners are swept");
}

struct Panics;

impl OnCancel for Panics {
    fn on_cancel(&self, _: StopKind, _: CancelReason) {
        panic!("a bug in a listener");
    }
}

#[test]
fn a_listener_that_panics_keeps_no_other_from_hearing() {
    let context = Context::new();
    let (bad, heard) = (Arc::new(Panics), Arc::new(Heard::default()));
    context.on_cancel(Arc::downgrade(&bad));
    context.on_cancel(Arc::downgrade(&heard));
    context.kill();
    assert_eq!(heard.0.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn waiting_ends_with_the_cancel() {
    let context = Context::new();
    let waiting = tokio::spawn({
        let context = context.clone();
        async move { context.killed().await }
    });
    context.stop();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    context.kill();
    waiting.await.unwrap();
    context.stopped().await;
}

#[test]
fn a_received_context_says_so_to_its_children_and_not_to_its_caller() {
    let callers = Context::new();
    let received = callers.clone().received();
    assert!(received.is_received() && !callers.is_received());
    assert!(received.child().is_received());
    assert!(received.child_with(Headers::new()).is_received());
    assert!(received.is_same(&callers) && !callers.child().is_received());
}
