//! Counting costs no memory when nobody looks.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::alloc::System;

use sinew_guards::fewest_allocations;
use sinew_plane::{Fault, TransportId};
use sinew_telemetry::{EndpointMetrics, Side, TransportMetrics};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUESTS: usize = 1_000;
const ITEMS: usize = 256;

/// All that both sides count of some requests.
fn count_requests(transport: &TransportMetrics, endpoint: &EndpointMetrics) {
    for _ in 0..REQUESTS {
        let since = transport.request();
        let stream = transport.stream();
        let mut request = endpoint.admitted(128).over(transport);
        for _ in 0..ITEMS {
            request.items(64);
        }
        request.end(Some(Fault::Application));
        transport.answered(since);
        transport.error(Fault::Transport);
        drop(stream);
    }
}

#[test]
fn counting_what_nobody_collects_asks_for_no_memory() {
    let name = "text/words/split".parse().unwrap();
    let transport = TransportMetrics::new(&TransportId::from_static("tcp"), Side::Serving);
    let endpoint = EndpointMetrics::new(&name);
    let asked = fewest_allocations(|| count_requests(&transport, &endpoint));
    assert_eq!(asked, 0, "blocks for {REQUESTS} requests without a recorder");
}
