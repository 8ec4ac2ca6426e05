//! How often a piece of work asks for memory.

use stats_alloc::INSTRUMENTED_SYSTEM;

/// Tries. The program around the work may ask for memory too, but not each time.
const TRIES: usize = 5;

/// The fewest blocks that were asked for, or grown, in one of five runs of the work. The program
/// must have `stats_alloc`'s allocator for its own.
pub fn fewest_allocations(mut work: impl FnMut()) -> usize {
    let mut fewest = usize::MAX;
    for _ in 0..TRIES {
        let before = asked_for();
        work();
        fewest = fewest.min(asked_for() - before);
    }
    fewest
}

fn asked_for() -> usize {
    let heap = INSTRUMENTED_SYSTEM.stats();
    heap.allocations + heap.reallocations
}
