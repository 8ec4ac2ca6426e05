//! Rules of the module above, each on its own.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

mod loads;

fn instances(weights: &[(u64, u32)]) -> Vec<Arc<Instance>> {
    let make = |(id, weight): &(u64, u32)| {
        let name = "a/b/c".parse().unwrap();
        let mut one = Instance::new(name, InstanceId(*id), Vec::new());
        one.weight = *weight;
        Arc::new(one)
    };
    weights.iter().map(make).collect()
}

fn turns(picker: &mut Picker, instances: &[Arc<Instance>], count: usize) -> Vec<u64> {
    let turn = |_| picker.pick(RouterMode::RoundRobin, instances, |_| false).unwrap().id.0;
    (0..count).map(turn).collect()
}

fn counts(ids: &[u64]) -> HashMap<u64, usize> {
    let mut counts = HashMap::new();
    for id in ids {
        *counts.entry(*id).or_default() += 1;
    }
    counts
}

#[test]
fn equal_weights_rotate_exactly_whatever_the_start() {
    let all = instances(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
    let mut firsts = counts(&[]);
    for seed in 0..64 {
        let ids = turns(&mut Picker::seeded(seed), &all, 12);
        for pair in ids.windows(2) {
            assert_eq!(pair[1], pair[0] % 4 + 1, "{ids:?}");
        }
        *firsts.entry(ids[0]).or_default() += 1;
    }
    assert_eq!(firsts.len(), 4, "pickers begin in different places");
}

#[test]
fn many_fresh_pickers_that_choose_once_spread_by_the_weights() {
    let first = |all: &[Arc<Instance>], seed| turns(&mut Picker::seeded(seed), all, 1)[0];
    for (weights, heavy) in [([3, 1], 300), ([2, 1], 267), ([1, 1000], 0), ([1, 1], 200)] {
        let all = instances(&[(1, weights[0]), (2, weights[1])]);
        let firsts: Vec<_> = (0..400).map(|seed| first(&all, seed)).collect();
        let found = counts(&firsts).get(&1).copied().unwrap_or_default();
        assert!(found.abs_diff(heavy) <= 40, "{weights:?}: {found} of 400");
    }
    // One that is left out is not begun with, and the others keep their odds.
    let all = instances(&[(1, 3), (2, 1), (3, 9)]);
    let firsts: Vec<_> = (0..400)
        .map(|seed| Picker::seeded(seed).pick(RouterMode::RoundRobin, &all, |one| one.id.0 == 3))
        .map(|choice| choice.unwrap().id.0)
        .collect();
    assert!(counts(&firsts)[&1].abs_diff(300) <= 40, "{firsts:?}");
}

#[test]
fn weights_are_met_exactly_and_smoothly() {
    let all = instances(&[(1, 5), (2, 1), (3, 1)]);
    let ids = turns(&mut Picker::seeded(3), &all, 70);
    assert_eq!(counts(&ids), [(1, 50), (2, 10), (3, 10)].into());
    assert!(!ids.windows(5).any(|run| run == [1; 5]), "a heavy one comes in between, not in a row");
    let heavy = instances(&[(1, 1000), (2, 0)]);
    let ids = turns(&mut Picker::seeded(3), &heavy, 1001);
    assert_eq!(counts(&ids), [(1, 1000), (2, 1)].into(), "a weight of zero counts as one");
}

#[test]
fn a_changing_list_favours_nobody() {
    // One of four comes and goes after every choice: a rotation that began anew each time would
    // choose the first one always.
    let with = instances(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
    let without = instances(&[(1, 1), (2, 1), (4, 1)]);
    let mut picker = Picker::seeded(5);
    let mut ids = Vec::new();
    for round in 0..600 {
        let list = if round % 2 == 0 { &with } else { &without };
        ids.extend(turns(&mut picker, list, 1));
    }
    let counts = counts(&ids);
    for id in [1, 2, 4] {
        assert!((140..=200).contains(&counts[&id]), "{counts:?}");
    }
}

#[test]
fn a_newcomer_gets_its_share_and_no_burst() {
    let mut picker = Picker::seeded(1);
    turns(&mut picker, &instances(&[(1, 1), (2, 1)]), 1001);
    let ids = turns(&mut picker, &instances(&[(1, 1), (2, 1), (3, 1)]), 30);
    assert_eq!(counts(&ids)[&3], 10, "{ids:?}");
    assert!(!ids.windows(2).any(|pair| pair == [3, 3]), "{ids:?}");
}

#[test]
fn a_debt_from_old_weights_is_forgiven() {
    let mut picker = Picker::seeded(1);
    turns(&mut picker, &instances(&[(1, 1000), (2, 1000), (3, 1)]), 1);
    let ids = turns(&mut picker, &instances(&[(1, 1), (2, 1)]), 20);
    assert!(counts(&ids).values().all(|count| *count >= 8), "{ids:?}");
}

#[test]
fn skipped_ones_are_not_chosen_and_lose_nothing() {
    let all = instances(&[(1, 1), (2, 1), (3, 1)]);
    for mode in [
        RouterMode::RoundRobin,
        RouterMode::Random,
        RouterMode::PowerOfTwoChoices,
        RouterMode::LeastLoaded,
    ] {
        let mut picker = Picker::seeded(9);
        for _ in 0..50 {
            let choice = picker.pick(mode, &all, |one| one.id.0 == 2).unwrap();
            assert_ne!(choice.id.0, 2);
            assert_eq!(all[choice.index].id, choice.id);
        }
        assert_eq!(picker.pick(mode, &all, |_| true), None);
        assert_eq!(picker.pick(mode, &[], |_| false), None);
    }
    let mut picker = Picker::seeded(9);
    for _ in 0..50 {
        picker.pick(RouterMode::RoundRobin, &all, |one| one.id.0 == 2);
    }
    assert_eq!(counts(&turns(&mut picker, &all, 30)), [(1, 10), (2, 10), (3, 10)].into());
}

#[test]
fn lots_follow_the_weights() {
    let all = instances(&[(1, 3), (2, 1)]);
    let mut picker = Picker::seeded(11);
    let draw = |_| picker.pick(RouterMode::Random, &all, |_| false).unwrap().id.0;
    let counts = counts(&(0..4000).map(draw).collect::<Vec<_>>());
    assert!((2850..3150).contains(&counts[&1]), "{counts:?}");
}

#[test]
fn a_named_one_is_chosen_or_nobody() {
    let all = instances(&[(1, 1), (u64::MAX, 1)]);
    let mut picker = Picker::seeded(1);
    let mut pick = |id: i64| picker.pick(RouterMode::Direct(id.into()), &all, |_| false);
    let chosen = pick(-1).unwrap();
    assert_eq!((chosen.index, chosen.why), (1, Why::Named));
    assert_eq!(pick(2), None);
}

proptest! {
    /// Over any list that stays, each instance is chosen in proportion, exactly, per full cycle.
    #[test]
    fn a_cycle_is_exact(weights in prop::collection::vec(1u32..6, 1..8), seed: u64) {
        let list: Vec<_> = weights.iter().enumerate().map(|(n, w)| (n as u64, *w)).collect();
        let total: u32 = weights.iter().sum();
        let ids = turns(&mut Picker::seeded(seed), &instances(&list), 2 * total as usize);
        for (id, weight) in list {
            prop_assert_eq!(counts(&ids)[&id], 2 * weight as usize);
        }
    }
}
