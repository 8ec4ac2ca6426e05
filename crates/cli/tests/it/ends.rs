//! How `sinew serve` ends, and how it ends what it runs.

use std::{
    io::BufRead,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, test_kill_process};

use crate::world::{Running, World, assert_code, content_of, stdout, until};

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_the_grace() {
    let world = World::new();
    let pid = world.path("pid");
    let script =
        format!("trap '' TERM; echo $$ > {}; echo a; while :; do sleep 1; done", pid.display());
    let args = ["a/b/stubborn", "--kill-grace", "300ms", "--", "sh", "-c", &script];
    let _server = world.serve(args);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/stubborn"]));
    lines.read_line(&mut String::new()).unwrap();
    let pid = Pid::from_raw(content_of(&pid).trim().parse().unwrap()).unwrap();
    let cancelled = Instant::now();
    call.signal(Signal::INT);
    assert_code(&call.finish(), 130);
    until("the command to be killed", || test_kill_process(pid).is_err());
    assert!(cancelled.elapsed() >= Duration::from_millis(300));
}

#[test]
fn what_the_command_has_started_ends_with_it() {
    let world = World::new();
    let pid = world.path("pid");
    let script = format!("sleep 60 & echo $! > {}; echo a; wait", pid.display());
    let _server = world.serve(["a/b/parent", "--", "sh", "-c", &script]);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/parent"]));
    lines.read_line(&mut String::new()).unwrap();
    let pid = Pid::from_raw(content_of(&pid).trim().parse().unwrap()).unwrap();
    call.signal(Signal::INT);
    assert_code(&call.finish(), 130);
    until("the grandchild to end", || test_kill_process(pid).is_err());
}

#[test]
fn the_first_signal_lets_requests_finish() {
    let world = World::new();
    let go = world.path("go");
    let script = format!("echo a; while [ ! -e {} ]; do sleep 0.01; done; echo b", go.display());
    let mut server = world.serve(["a/b/c", "--", "sh", "-c", &script]);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/c"]));
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    server.signal(Signal::TERM);
    assert!(server.next_line().starts_with("finishing 1 requests"));
    // Withdrawn: nobody finds it any more.
    until("the endpoint to be withdrawn", || stdout(&world.run(["ls", "--json"])).trim() == "[]");
    world.file("go", "");
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "a\nb\n");
    assert_code(&call.finish(), 0);
    assert_eq!(server.code(), Some(0));
}

#[test]
fn the_second_signal_cuts() {
    let world = World::new();
    let script = "trap '' TERM; echo a; while :; do sleep 1; done";
    let mut server = world.serve(["a/b/c", "--kill-grace", "60s", "--", "sh", "-c", script]);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/c"]));
    lines.read_line(&mut String::new()).unwrap();
    server.signal(Signal::INT);
    assert!(server.next_line().starts_with("finishing 1 requests"));
    server.signal(Signal::INT);
    assert_eq!(server.code(), Some(130));
    // The worker was shut down; the program that was killed for it is not to blame.
    assert_code(&call.finish(), 3);
}

#[test]
fn requests_that_outlast_the_grace_are_told_so() {
    let world = World::new();
    let script = "echo a; exec sleep 60";
    let mut server = world.serve(["a/b/c", "--grace", "100ms", "--", "sh", "-c", script]);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/c"]));
    lines.read_line(&mut String::new()).unwrap();
    server.signal(Signal::TERM);
    assert_code(&call.finish(), 3);
    assert_eq!(server.code(), Some(9));
}
