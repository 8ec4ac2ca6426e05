//! A router chooses an instance without asking for memory, whatever the mode.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{alloc::System, sync::Arc};

use sinew_discovery::Instance;
use sinew_guards::fewest_allocations;
use sinew_plane::InstanceId;
use sinew_router::{Picker, RouterMode};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const INSTANCES: u64 = 64;
const PICKS: usize = 10_000;

#[test]
fn a_pick_asks_for_no_memory() {
    let name: sinew_plane::EndpointName = "text/words/split".parse().unwrap();
    let make = |id| Arc::new(Instance::new(name.clone(), InstanceId(id), Vec::new()));
    let instances: Vec<_> = (1..=INSTANCES).map(make).collect();
    let of_a_block = fewest_allocations(|| drop(std::hint::black_box(vec![1u8])));
    assert!(of_a_block > 0, "the counter counts");
    for mode in [
        RouterMode::RoundRobin,
        RouterMode::Random,
        RouterMode::Direct(InstanceId(INSTANCES / 2)),
        RouterMode::PowerOfTwoChoices,
        RouterMode::LeastLoaded,
    ] {
        let mut picker = Picker::seeded(7);
        // The first one makes the picker's tables.
        picker.pick(mode, &instances, |_| false).unwrap();
        let asked = fewest_allocations(|| {
            for _ in 0..PICKS {
                picker.pick(mode, &instances, |one| one.id == InstanceId(1)).unwrap();
            }
        });
        assert_eq!(asked, 0, "{mode:?}: blocks in {PICKS} picks");
    }
}
