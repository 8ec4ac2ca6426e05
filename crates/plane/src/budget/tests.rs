//! The budget with a clock that is moved by hand.

use std::{
    sync::atomic::AtomicU32,
    task::{Wake, Waker},
    time::{Duration, Instant},
};

use super::*;

const MIB: usize = 1 << 20;

/// Counts what it is told.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn new_work_is_refused_before_what_runs() {
    let budget = Budget::new(8 * MIB);
    let accounts: Vec<_> = (0..4).map(|_| budget.open()).collect();
    for (at, account) in accounts.iter().enumerate() {
        let bytes = if at == 3 { MIB } else { 2 * MIB };
        assert!(account.charge(BudgetUse::Bodies, bytes, Work::New));
    }
    assert!(budget.is_spent(), "7 of 8 MiB");
    let refusal = budget.admit().unwrap_err();
    assert_eq!((refusal.code(), refusal.executed()), (Code::Overloaded, Executed::No));
    assert!(!accounts[3].charge(BudgetUse::Bodies, 1, Work::New));
    assert!(accounts[3].charge(BudgetUse::Kept, MIB, Work::Running));
    assert!(!accounts[3].charge(BudgetUse::Kept, 1, Work::Running));
    assert_eq!((budget.total(), budget.used(BudgetUse::Kept)), (8 * MIB, MIB));
    for account in &accounts[..3] {
        account.release(BudgetUse::Bodies, 2 * MIB);
    }
    assert!(budget.admit().is_ok());
}

#[test]
fn one_connection_has_its_share_and_no_more() {
    let budget = Budget::new(8 * MIB);
    let (greedy, other) = (budget.open(), budget.open());
    let mut hold = greedy.hold(BudgetUse::Frames, MIB, Work::Running).unwrap();
    assert!(hold.grow_to(2 * MIB, Work::Running));
    assert!(!hold.grow_to(2 * MIB + 1, Work::Running));
    assert_eq!((greedy.room(), other.room()), (0, 2 * MIB));
    assert!(other.charge(BudgetUse::Frames, 2 * MIB, Work::New));
    hold.shrink_to(MIB);
    assert_eq!((hold.bytes(), greedy.used()), (MIB, MIB));
    drop(hold);
    assert_eq!((greedy.used(), budget.total()), (0, 2 * MIB));
}

#[test]
fn a_tally_touches_the_budget_in_steps() {
    let budget = Budget::new(8 * MIB);
    let account = budget.open();
    let mut tally = Tally::default();
    let mut changes = 0;
    for round in 0..1_000 {
        let before = budget.total();
        assert!(tally.cover(100 + round % 7, BudgetUse::Kept, &account, Work::Running));
        changes += usize::from(budget.total() != before);
        tally.settle(0, BudgetUse::Kept, &account);
    }
    assert_eq!((changes, tally.charged()), (1, 2 << 10));
    assert!(tally.cover(100 << 10, BudgetUse::Kept, &account, Work::Running));
    tally.settle(1, BudgetUse::Kept, &account);
    assert_eq!(tally.charged(), 2 << 10, "what is far too much goes back");
    let _tight = budget.open().hold(BudgetUse::Kept, 2 * MIB, Work::Running);
    let _tighter = budget.open().hold(BudgetUse::Kept, 2 * MIB, Work::Running);
    assert!(tally.cover(10 << 10, BudgetUse::Kept, &account, Work::Running));
    tally.settle(0, BudgetUse::Kept, &account);
    assert_eq!(tally.charged(), 0, "and everything when the budget is tight");
    tally.clear(BudgetUse::Kept, &account);
    assert_eq!(account.used(), 0);
}

#[test]
fn who_has_used_up_its_share_waits_for_its_own() {
    let budget = Budget::new(8 * MIB);
    let (full, other) = (budget.open(), budget.open());
    let hold = full.hold(BudgetUse::Kept, 2 * MIB, Work::Running).unwrap();
    let bell = Arc::new(Bell::default());
    full.wait_for_room(1, 1, &Waker::from(Arc::clone(&bell)));
    drop(other.hold(BudgetUse::Kept, MIB, Work::Running));
    let now = Instant::now();
    assert!(budget.relieve(now), "it still waits");
    assert_eq!(bell.0.load(Ordering::SeqCst), 0, "though the budget has room");
    drop(hold);
    assert!(!budget.relieve(now));
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
}

#[test]
fn who_waits_is_woken_when_there_is_room() {
    let budget = Budget::new(MIN_BUDGET_BYTES);
    let held: Vec<_> = (0..4)
        .map(|_| budget.open().hold(BudgetUse::Kept, budget.share(), Work::Running).unwrap())
        .collect();
    let bell = Arc::new(Bell::default());
    let account = budget.open();
    account.wait_for_room(1, MIB, &Waker::from(Arc::clone(&bell)));
    account.wait_for_room(1, MIB, &Waker::from(Arc::clone(&bell)));
    let now = Instant::now();
    assert!(budget.relieve(now), "nothing is free: look again");
    assert_eq!(bell.0.load(Ordering::SeqCst), 0);
    drop(held);
    assert!(!budget.relieve(now));
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
}

/// Two streams, of which the second waits for longer.
struct Two {
    account: OnceHold,
    began: Instant,
    ended: AtomicU32,
}

type OnceHold = Mutex<Option<Hold>>;

impl Holder for Two {
    fn stalled(&self, before: Instant, to: &mut Vec<Stalled>) {
        for (stream, later) in [(1, 1), (2, 0)] {
            let since = self.began + Duration::from_secs(later);
            if since <= before {
                to.push(Stalled { since, stream, bytes: MIB });
            }
        }
    }

    fn end(&self, stream: u32, error: &Error) {
        assert_eq!((error.code(), error.executed()), (Code::Exhausted, Executed::Yes));
        self.ended.fetch_or(stream, Ordering::SeqCst);
        let mut hold = self.account.lock();
        if let Some(hold) = hold.as_mut() {
            hold.shrink_to(hold.bytes() - MIB);
        }
    }
}

#[test]
fn the_streams_that_wait_longest_are_ended_once_the_budget_stays_spent() {
    let budget = Budget::new(8 * MIB);
    let _others: Vec<_> = [2, 2, 1]
        .map(|mib| budget.open().hold(BudgetUse::Bodies, mib * MIB, Work::Running).unwrap())
        .into();
    let account = budget.open();
    let hold = account.hold(BudgetUse::Kept, 2 * MIB, Work::Running);
    let began = Instant::now();
    let two = Arc::new(Two { account: Mutex::new(hold), began, ended: AtomicU32::new(0) });
    let holder = Arc::downgrade(&two);
    account.held_by(holder);
    assert!(budget.admit().is_err());
    let at = |millis| began + Duration::from_millis(millis);
    assert!(budget.relieve(at(0)) && budget.relieve(at(1_900)));
    assert_eq!(two.ended.load(Ordering::SeqCst), 0, "there was no time to free it");
    assert!(budget.relieve(at(2_100)));
    assert_eq!(two.ended.load(Ordering::SeqCst), 2, "the one that waits for longer, and no more");
    assert!(!budget.relieve(at(2_200)), "it is no longer spent");
    assert!(budget.admit().is_ok());
}
