//! What is retained, when memory is short.

use sinew_plane::{budget::Work, clock};

use super::*;

/// As much as there is memory for.
const ALL: Retain = Retain { items: 1 << 20, bytes: 1 << 30, ..RETAIN };
const ITEM_BYTES: usize = 10 << 10;

impl World {
    /// Sends items of 10 KiB, each of which the caller acknowledges.
    async fn fill(&mut self, items: usize) {
        for _ in 0..items {
            let sending = self.sink.send(vec![b'1'; ITEM_BYTES].into());
            timeout(GUARD, sending).await.expect("the stream goes on").unwrap();
            let sent = self.sink.sent() as usize;
            self.first.has(sent).await;
            self.first.grant(0);
        }
    }

    async fn window(&self, from: u64) -> Option<(u64, u64)> {
        let (far, _) = self.attach(from, 1);
        window(&far.end().await)
    }
}

#[tokio::test]
async fn what_is_retained_is_charged_and_goes_first_when_the_budget_is_spent() {
    let budget = Budget::new(4 << 20);
    let mut world = World::within(Some(&budget), ALL, usize::MAX / 2);
    world.fill(1_000).await;
    let retained = budget.used(BudgetUse::Retained);
    assert!(retained > 512 << 10 && retained <= budget.share(), "{retained}");
    assert!(world.window(0).await.is_some_and(|(oldest, _)| oldest > 800));
    world.close().await;
    assert_eq!(budget.used(BudgetUse::Retained), 0);
}

#[tokio::test]
async fn a_response_that_nobody_reads_gives_way_to_one_that_runs() {
    let budget = Budget::new(4 << 20);
    let retention = Retention::new(Some(&budget));
    let mut old = World::among(&retention, ALL, usize::MAX / 2);
    old.fill(200).await;
    let old = old.complete().await;
    let share = budget.share();
    assert!(budget.used(BudgetUse::Retained) > share / 2);
    let mut new = World::among(&retention, ALL, usize::MAX / 2);
    // Less than may be retained: with the old one it is more.
    new.fill(80).await;
    let (reader, _) = new.attach(8, 1_000);
    reader.has(72).await;
    assert_eq!(old.window(190).await, None, "nothing is left of it");
    timeout(GUARD, async {
        while !old.tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(budget.used(BudgetUse::Retained) <= share);
    new.close().await;
    assert_eq!(budget.used(BudgetUse::Retained), 0);
}

#[tokio::test]
async fn new_requests_find_room_where_something_was_retained() {
    let budget = Budget::new(4 << 20);
    let mut world = World::within(Some(&budget), ALL, usize::MAX / 2);
    world.fill(80).await;
    let others: Vec<_> = (0..3).map(|_| budget.open()).collect();
    let fill = |account| Account::hold(account, BudgetUse::Kept, 1 << 20, Work::Running);
    let _held: Vec<_> = others.iter().map(|account| fill(account).unwrap()).collect();
    budget.admit().unwrap_err();
    let retained = budget.used(BudgetUse::Retained);
    budget.relieve(clock::now());
    assert!(budget.used(BudgetUse::Retained) < retained / 4);
    budget.admit().unwrap();
    assert!(world.window(0).await.is_some_and(|(oldest, newest)| oldest > 60 && newest == 80));
    world.fill(1).await;
    assert!(world.first.state.lock().end.is_none(), "its caller reads on");
    world.close().await;
}

#[tokio::test]
async fn no_more_than_so_many_responses_are_kept() {
    let retention = Retention::new(None);
    retention.most.store(16, Ordering::Relaxed);
    let mut ended = Vec::new();
    for _ in 0..64 {
        let mut world = World::among(&retention, RETAIN, 10);
        world.send(0..2).await;
        let world = world.complete().await;
        tokio::task::yield_now().await;
        assert!(retention.logs.lock().len() <= 17);
        ended.push(world);
    }
    let (newest, _) = ended[63].attach(0, 10);
    newest.has(2).await;
    let (oldest, _) = ended[0].attach(0, 10);
    let end = oldest.end().await;
    assert!(matches!(end, Terminal::Failed { error } if error.code() == Code::ResumeExpired));
}
