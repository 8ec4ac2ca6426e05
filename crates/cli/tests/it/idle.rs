//! What connections and streams cost a worker that are open and do nothing, and what is left of
//! them when they are gone.

use std::fs;

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    raw_mux::{RawMux, address, memory},
    world::{Server, World, until},
};

const KIB: usize = 1 << 10;

/// Enough of them that what a process needs once does not count.
const MANY: usize = 1_000;

/// As many connections as `wanted`, if this process and the worker may have them: one address gets
/// half of the places.
fn connections(wanted: usize) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // What a neighbour in this process has set is the same.
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let most = maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap());
    wanted.min(most / 4)
}

fn greet(server: &Server, count: usize) -> Vec<RawMux> {
    let at = address(server);
    (0..count).map(|_| RawMux::greet(at).unwrap()).collect()
}

fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count()
}

#[test]
fn an_idle_connection_costs_less_than_8_kib() {
    let world = World::new();
    let server = world.serve(["test/idle/echo", "--", "cat"]);
    let count = connections(MANY);
    let _first = greet(&server, 50);
    let before = memory(&server, "VmRSS");
    let _idle = greet(&server, count);
    let each = memory(&server, "VmRSS").saturating_sub(before) / count;
    assert!(each < 8 * KIB, "{each} bytes each");
}

/// Answers each request with one item and no end.
const HANGS: &str = r#"
while IFS= read -r line; do
  id=${line#*'"id":'}; id=${id%%[,\}]*}
  printf '{"id":%s,"item":"begun"}\n' "$id"
done
"#;

#[test]
fn an_idle_stream_at_a_persistent_program_costs_less_than_2_kib() {
    let world = World::new();
    let args =
        ["test/idle/hangs", "--persistent", "--concurrency", "4096", "--", "sh", "-c", HANGS];
    let server = world.serve(args);
    let mut peer = RawMux::greet(address(&server)).unwrap();
    let mut begin = |count: usize| {
        for _ in 0..count {
            peer.open("test/idle/hangs", &Bytes::from_static(b"\"hello\""), 0).unwrap();
            peer.next_item();
        }
    };
    begin(100);
    let before = memory(&server, "VmRSS");
    begin(2 * MANY);
    let each = memory(&server, "VmRSS").saturating_sub(before) / (2 * MANY);
    assert!(each < 2 * KIB, "{each} bytes each");
}

#[test]
fn memory_comes_back_when_connections_go() {
    let world = World::new();
    let server = world.serve(["test/idle/echo", "--", "cat"]);
    let count = connections(2 * MANY);
    // What the process needs once, whatever comes later.
    drop(greet(&server, 50));
    let open = descriptors(&server);
    let before = memory(&server, "VmRSS");
    for _ in 0..6 {
        drop(greet(&server, count));
        until("the connections to be gone", || descriptors(&server) <= open);
    }
    until("the memory to be given back", || memory(&server, "VmRSS") <= before + before / 10);
}
