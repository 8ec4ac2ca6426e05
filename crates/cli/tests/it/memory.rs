//! What hostile and idle peers make a worker hold: memory and descriptors of a real process.

use std::process::Command;

use bytes::Bytes;
use sinew_plane::{Code, Terminal};

use crate::{
    raw_mux::{RawMux, address, memory},
    world::{World, assert_code, stderr, stdout, until},
};

const MIB: usize = 1 << 20;
const BUDGET: usize = 32 * MIB;

/// What a process may hold beside the budget: tables, buffers of connections, and what the
/// allocator keeps.
const BESIDE: usize = 24 * MIB;

#[test]
fn bodies_hold_no_more_than_the_budget_whether_they_end_or_not() {
    let world = World::new();
    // It reads nothing, so that what it was sent stays.
    let args = ["test/memory/deaf", "--memory-budget", "32MiB", "--", "sleep", "600"];
    let server = world.serve(args);
    let (at, before) = (address(&server), memory(&server, "VmRSS"));
    let body = Bytes::from(vec![b'x'; 3 * MIB]);
    let mut peers = Vec::new();
    for round in 0..16 {
        let mut peer = RawMux::greet(at).unwrap();
        let missing = if round % 2 == 0 { 64 << 10 } else { 0 };
        peer.open("test/memory/deaf", &body, missing);
        peer.open("test/memory/deaf", &body, missing);
        peers.push(peer);
    }
    // 96 MiB were sent.
    let held = memory(&server, "VmHWM").saturating_sub(before);
    assert!(held <= BUDGET + BESIDE, "{} MiB were held", held / MIB);
    drop(peers);
    // With their callers gone the programs end, and there is room again.
    until("room for an honest caller", || {
        let mut peer = RawMux::greet(at).unwrap();
        peer.open("test/memory/nobody", &Bytes::from(vec![b'x'; MIB]), 0);
        let Some(Terminal::Failed { error }) = peer.next_end() else { return false };
        error.code() == Code::UnknownEndpoint
    });
}

#[test]
fn idle_connections_do_not_starve_an_honest_caller() {
    let world = World::new();
    let sinew = env!("CARGO_BIN_EXE_sinew");
    let mut shell = Command::new("sh");
    let script = r#"ulimit -n 256; exec "$0" serve test/memory/echo --concurrency 8 -- cat"#;
    shell.args(["-c", script, sinew]);
    let server = world.serve_by(shell);
    let at = address(&server);
    // As many as the process may open, all greeted: most make room for those that come later.
    let idle: Vec<_> = (0..245).map(|_| RawMux::greet(at)).collect();
    let discovery = format!("static:{at}");
    let call = || {
        let args = ["--discovery", &discovery, "call", "test/memory/echo", "--data", "still here"];
        world.run(args)
    };
    // Those that were asked to go need a moment.
    until("room for an honest caller", || call().status.success());
    for _ in 0..3 {
        let output = call();
        assert_code(&output, 0);
        assert_eq!(stdout(&output).trim_end(), "still here");
    }
    drop(idle);
}

#[test]
fn a_request_over_its_share_of_the_budget_is_told_of_the_budget() {
    let world = World::new();
    let _server = world.serve(["test/memory/echo", "--memory-budget", "32MiB", "--", "cat"]);
    let big = world.file("big", vec![b'x'; 12 * MIB]);
    let output = world.run(["call", "test/memory/echo", "--file", big.to_str().unwrap()]);
    assert_code(&output, 6);
    let said = stderr(&output);
    let ways = ["SINEW_MAX_MESSAGE_BYTES", "SINEW_MEMORY_BUDGET", "--memory-budget"];
    assert!(ways.iter().all(|way| said.contains(way)), "{said}");
}
