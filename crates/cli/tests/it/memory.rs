//! What hostile and idle peers make a worker hold: memory and descriptors of a real process.

use std::process::Command;

use bytes::Bytes;
use sinew_plane::{Code, Executed, Terminal};

use crate::{
    raw_mux::{RawMux, address, memory},
    world::{World, assert_code, stdout, until},
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
    let mut refused = 0;
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
    let last = peers.last_mut().unwrap();
    while refused < 2 {
        match last.next_end() {
            Some(Terminal::Failed { error }) => {
                assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));
                refused += 1;
            }
            other => panic!("not refused: {other:?}"),
        }
    }
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
    // As many as the process may open, all greeted: most are closed for those that come later.
    let idle: Vec<_> = (0..245).map(|_| RawMux::greet(at)).collect();
    assert!(idle.iter().flatten().count() > 200, "each was served when it came");
    for _ in 0..3 {
        let discovery = format!("static:{at}");
        let args = ["--discovery", &discovery, "call", "test/memory/echo", "--data", "still here"];
        let output = world.run(args);
        assert_code(&output, 0);
        assert_eq!(stdout(&output).trim_end(), "still here");
    }
    drop(idle);
}

#[test]
fn an_idle_connection_costs_little_and_churn_leaves_nothing() {
    let world = World::new();
    let server = world.serve(["test/memory/echo", "--", "cat"]);
    let at = address(&server);
    let greet =
        |count: usize| -> Vec<_> { (0..count).map(|_| RawMux::greet(at).unwrap()).collect() };
    // What is made once is made by now.
    drop(greet(100));
    until("the first to be gone", || connections(&server) == 0);
    let before = memory(&server, "VmRSS");
    const COUNT: usize = 400;
    let idle = greet(COUNT);
    let each = memory(&server, "VmRSS").saturating_sub(before) / COUNT;
    assert!(each < 8 << 10, "{each} bytes for an idle connection");
    drop(idle);
    until("those to be gone", || connections(&server) == 0);
    let once = memory(&server, "VmRSS");
    for _ in 0..4 {
        drop(greet(COUNT));
        until("all to be gone", || connections(&server) == 0);
    }
    let after = memory(&server, "VmRSS");
    assert!(after <= once + once / 10, "{} KiB and then {} KiB", once >> 10, after >> 10);
}

/// Connections that the server has, its listeners and own descriptors not counted.
fn connections(server: &crate::world::Server) -> usize {
    let inodes: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let name = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
            Some(name)
        })
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    // State 0A listens.
    let open = table.lines().skip(1).filter(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[3] != "0A" && inodes.iter().any(|inode| inode == fields[9])
    });
    open.count()
}
