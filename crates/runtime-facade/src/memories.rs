//! What the routers of a runtime remember of each endpoint that it calls.

use std::collections::HashMap;

use parking_lot::Mutex;
use sinew_plane::EndpointName;
use sinew_router::RouterMemory;

/// Most endpoints that are remembered while no router to them exists.
const MAX_UNUSED: usize = 1_024;

/// One memory for each endpoint: a router that a program makes for a single call spends the same
/// budget as the one before, and leaves out the same instances.
#[derive(Default)]
pub(crate) struct Memories(Mutex<HashMap<EndpointName, RouterMemory>>);

impl Memories {
    /// The memory of that endpoint.
    pub(crate) fn of(&self, endpoint: &EndpointName) -> RouterMemory {
        let mut all = self.0.lock();
        if let Some(memory) = all.get(endpoint) {
            return memory.clone();
        }
        // Swept when it is full, so that the next one costs no more than the last.
        if all.len() >= MAX_UNUSED && all.len() == all.capacity() {
            all.retain(|_, memory| memory.is_shared());
        }
        all.entry(endpoint.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_one_memory_and_those_that_nobody_uses_are_bounded() {
        let memories = Memories::default();
        let name = |number: usize| -> EndpointName { format!("a/b/c{number}").parse().unwrap() };
        let held = memories.of(&name(0));
        assert!(held.is_shared());
        for number in 1..20 * MAX_UNUSED {
            drop(memories.of(&name(number)));
        }
        let all = memories.0.lock();
        assert!(all.len() < 4 * MAX_UNUSED, "{}", all.len());
        assert!(all.contains_key(&name(0)), "one that a router has stays");
    }
}
