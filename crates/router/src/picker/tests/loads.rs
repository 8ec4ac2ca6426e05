//! The modes that go by load.

use super::*;
use crate::{InstanceLoad, Loads};

const TWO: RouterMode = RouterMode::PowerOfTwoChoices;
const LEAST: RouterMode = RouterMode::LeastLoaded;

/// A picker with so many requests in flight per instance, and their permits.
fn loaded(seed: u64, all: &[Arc<Instance>], in_flight: &[u32]) -> (Picker, Vec<InFlightGuard>) {
    let mut picker = Picker::seeded(seed);
    let mut permits = Vec::new();
    for (one, count) in all.iter().zip(in_flight) {
        let named = picker.pick(RouterMode::Direct(one.id), all, |_| false).unwrap();
        permits.extend((0..*count).map(|_| picker.admit(&named)));
    }
    (picker, permits)
}

/// How often each is chosen over many draws by pickers that all see these loads.
fn shares(mode: RouterMode, weights: &[u32], in_flight: &[u32]) -> Vec<u32> {
    let list: Vec<_> = (1..).zip(weights.iter().copied()).collect();
    let all = instances(&list);
    let (mut picker, _permits) = loaded(7, &all, in_flight);
    let mut shares = vec![0; all.len()];
    for _ in 0..4000 {
        shares[picker.pick(mode, &all, |_| false).unwrap().index] += 1;
    }
    shares
}

/// Chooses and admits `count` requests that do not end.
fn fill(
    picker: &mut Picker,
    mode: RouterMode,
    all: &[Arc<Instance>],
    count: usize,
) -> Vec<InFlightGuard> {
    let one = |_| {
        let choice = picker.pick(mode, all, |_| false).unwrap();
        picker.admit(&choice)
    };
    (0..count).map(one).collect()
}

fn in_flight(picker: &Picker, all: &[Arc<Instance>]) -> Vec<u32> {
    all.iter().map(|one| picker.in_flight(one.id)).collect()
}

#[test]
fn of_two_the_lower_load_is_chosen() {
    assert_eq!(shares(TWO, &[1, 1], &[5, 4]), [0, 4000]);
    assert_eq!(shares(TWO, &[1, 1], &[0, 1]), [4000, 0]);
    assert_eq!(shares(TWO, &[1], &[9]), [4000], "one alone is chosen whatever its load");
}

#[test]
fn of_three_the_most_loaded_is_never_chosen() {
    for in_flight in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 0, 100], [99, 100, 99]] {
        let shares = shares(TWO, &[1, 1, 1], &in_flight);
        let worst = (0..3).max_by_key(|place| in_flight[*place]).unwrap();
        assert_eq!(shares[worst], 0, "{in_flight:?}: {shares:?}");
        let others = shares.iter().filter(|share| **share > 1000).count();
        assert_eq!(others, 2, "{in_flight:?}: the other two share them: {shares:?}");
    }
}

#[test]
fn the_least_loaded_is_the_exact_minimum() {
    assert_eq!(shares(LEAST, &[1, 1, 1], &[2, 1, 0]), [0, 0, 4000]);
    assert_eq!(shares(LEAST, &[1, 1, 1, 1], &[7, 6, 8, 7]), [0, 4000, 0, 0]);
    let all = instances(&[(1, 1), (2, 1), (3, 1)]);
    let mut picker = Picker::seeded(4);
    let _permits = fill(&mut picker, LEAST, &all, 90);
    assert_eq!(in_flight(&picker, &all), [30, 30, 30]);
}

#[test]
fn equal_loads_are_decided_by_lot() {
    for mode in [TWO, LEAST] {
        for load in [0, 3] {
            for share in shares(mode, &[1, 1, 1, 1], &[load; 4]) {
                assert!((850..1150).contains(&share), "{mode} at {load} each: {share} of 4000");
            }
        }
        let shares = shares(mode, &[3, 1], &[0, 0]);
        assert!((2850..3150).contains(&shares[0]), "{mode}: by weight {shares:?}");
    }
    let shares = shares(LEAST, &[1, 1, 1], &[4, 2, 2]);
    assert!(shares[0] == 0 && shares[1].abs_diff(2000) < 150, "{shares:?}");
}

#[test]
fn loads_count_relative_to_weights() {
    for mode in [TWO, LEAST] {
        assert_eq!(shares(mode, &[4, 1], &[7, 2]), [4000, 0], "{mode}");
        assert_eq!(shares(mode, &[4, 1], &[9, 2]), [0, 4000], "{mode}");
        assert_eq!(shares(mode, &[0, 1], &[1, 0]), [0, 4000], "{mode}: zero counts as one");
    }
    let all = instances(&[(1, 5), (2, 1), (3, 1)]);
    let mut picker = Picker::seeded(2);
    let _permits = fill(&mut picker, LEAST, &all, 70);
    assert_eq!(in_flight(&picker, &all), [50, 10, 10]);
}

#[test]
fn a_heavy_one_among_many_gets_its_share_of_two_choices() {
    // Half of all the weight. Drawn evenly it would be one of the two in a fifth of the draws.
    let mut list: Vec<_> = (1..10).map(|id| (id, 1)).collect();
    list.push((10, 9));
    let all = instances(&list);
    let mut picker = Picker::seeded(6);
    let _permits = fill(&mut picker, TWO, &all, 1800);
    let loads = in_flight(&picker, &all);
    assert!((800..=1000).contains(&loads[9]), "{loads:?}");
    assert!(loads[..9].iter().all(|load| (85..=115).contains(load)), "{loads:?}");
}

#[test]
fn a_newcomer_begins_empty_and_is_neither_flooded_nor_avoided() {
    let old = instances(&[(1, 1), (2, 1), (3, 1)]);
    let new = instances(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
    for mode in [TWO, LEAST] {
        let mut picker = Picker::seeded(3);
        let _old = fill(&mut picker, mode, &old, 300);
        let mut permits = Vec::new();
        for _ in 0..100 {
            permits.extend(fill(&mut picker, mode, &new, 1));
            let loads = in_flight(&picker, &new);
            let most = loads[..3].iter().max().unwrap();
            assert!(loads[3] <= *most, "never more than the others hold: {mode} {loads:?}");
        }
        let got = picker.in_flight(InstanceId(4));
        match mode {
            // Drawn in half of all pairs, and the less loaded of each.
            TWO => assert!((30..=70).contains(&got), "{got} of 100"),
            _ => assert_eq!(got, 100, "until it holds as many as they do"),
        }
        permits.extend(fill(&mut picker, mode, &new, 500));
        let loads = in_flight(&picker, &new);
        assert!(loads.iter().all(|load| (215..=235).contains(load)), "{mode}: {loads:?}");
    }
}

#[test]
fn who_is_passed_over_is_not_compared_either() {
    let all = instances(&[(1, 1), (2, 1), (3, 1)]);
    let (mut picker, _permits) = loaded(5, &all, &[0, 3, 5]);
    let mut why = |mode, skip: &[u64]| {
        picker.pick(mode, &all, |one| skip.contains(&one.id.0)).map(|choice| choice.why)
    };
    let load = |id, in_flight| InstanceLoad {
        instance: InstanceId(id),
        in_flight,
        weight: 1,
        measured: None,
    };
    let without_one = Loads { chosen: load(2, 3), next: Some(load(3, 5)) };
    let alone = Loads { chosen: load(3, 5), next: None };
    for _ in 0..20 {
        assert_eq!(why(TWO, &[1]), Some(Why::LowerLoad(without_one)));
        assert_eq!(why(LEAST, &[1]), Some(Why::LowestLoad(without_one)));
        assert_eq!(why(TWO, &[1, 2]), Some(Why::LowerLoad(alone)));
        assert_eq!(why(LEAST, &[1, 2]), Some(Why::LowestLoad(alone)));
        assert_eq!(why(TWO, &[1, 2, 3]), None);
        assert_eq!(why(LEAST, &[1, 2, 3]), None);
    }
    let all_three = Loads { chosen: load(1, 0), next: Some(load(2, 3)) };
    assert_eq!(why(LEAST, &[]), Some(Why::LowestLoad(all_three)), "the next is the closest");
}

/// What happens next in a random history.
#[derive(Debug, Clone)]
enum Step {
    /// A request is chosen for, in one of the modes, and counted.
    Choose(RouterMode),
    /// One of the requests in flight ends.
    End(prop::sample::Index),
    /// Discovery has a new list: those of the ids 0 to 5 whose bit is set.
    List(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let modes = [RouterMode::RoundRobin, RouterMode::Random, TWO, TWO, LEAST, LEAST];
    prop_oneof![
        4 => prop::sample::select(modes.to_vec()).prop_map(Step::Choose),
        3 => any::<prop::sample::Index>().prop_map(Step::End),
        1 => (0..64_u8).prop_map(Step::List),
    ]
}

proptest! {
    /// After any history the counts are those of the requests in flight, of each instance and
    /// in sum, and each choice by load was right at its time.
    #[test]
    fn the_counts_are_the_requests_in_flight(
        weights in prop::collection::vec(0u32..5, 6),
        steps in prop::collection::vec(step(), 1..200),
        seed: u64,
    ) {
        let listed = |bits: u8| -> Vec<_> {
            let listed = (0..6_u64).filter(|id| bits >> id & 1 == 1);
            instances(&listed.map(|id| (id, weights[id as usize])).collect::<Vec<_>>())
        };
        let mut picker = Picker::seeded(seed);
        let mut list = listed(0b111);
        let mut running: Vec<(u64, InFlightGuard)> = Vec::new();
        for step in steps {
            match step {
                Step::List(bits) => list = listed(bits),
                Step::End(which) if !running.is_empty() => {
                    drop(running.swap_remove(which.index(running.len())));
                }
                Step::End(_) => {}
                Step::Choose(mode) => {
                    let Some(choice) = picker.pick(mode, &list, |_| false) else {
                        prop_assert!(list.is_empty());
                        continue;
                    };
                    prop_assert_eq!(list[choice.index].id, choice.id);
                    let per_weight = |one: &Instance| {
                        f64::from(picker.in_flight(one.id)) / f64::from(one.weight.max(1))
                    };
                    let chosen = per_weight(&list[choice.index]);
                    let others: Vec<_> = list.iter().filter(|one| one.id != choice.id).collect();
                    let least = others.iter().map(|one| per_weight(one)).fold(f64::MAX, f64::min);
                    let most = others.iter().map(|one| per_weight(one)).fold(-1.0, f64::max);
                    match mode {
                        LEAST => prop_assert!(chosen <= least),
                        TWO => prop_assert!(others.is_empty() || chosen <= most),
                        _ => {}
                    }
                    running.push((choice.id.0, picker.admit(&choice)));
                }
            }
            for id in 0..6 {
                let expected = running.iter().filter(|(at, _)| *at == id).count();
                prop_assert_eq!(picker.in_flight(InstanceId(id)) as usize, expected);
            }
        }
        drop(running);
        prop_assert!((0..6).all(|id| picker.in_flight(InstanceId(id)) == 0));
    }
}
