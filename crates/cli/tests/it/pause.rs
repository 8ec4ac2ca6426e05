//! Processes that are stopped and go on, as by a laptop's lid.

use std::{
    io::{BufRead, Read},
    thread,
    time::Duration,
};

use bytes::Bytes;
use rustix::process::Signal;
use sinew_plane::Terminal;

use crate::{
    raw_mux::{RawMux, address},
    world::{Running, Server, World, assert_code},
};

/// Longer than the silence after which a peer counts as dead.
const LONGER_THAN_KEEPALIVE: Duration = Duration::from_secs(18);

/// What came while the caller was stopped, no more than the window of its stream, lies in its
/// socket, and is read before the worker is judged by its silence.
#[test]
fn a_response_that_came_while_the_caller_was_stopped_is_whole() {
    let world = World::new();
    let (go, sent) = (world.path("go"), world.path("sent"));
    let script = format!(
        "echo first; while [ ! -e {} ]; do sleep 0.01; done; seq 1 1000; echo > {}",
        go.display(),
        sent.display()
    );
    let _server = world.serve(["a/b/c", "--", "sh", "-c", &script]);
    let (call, mut lines) = Running::start_reading(world.stoppable(["call", "a/b/c"]));
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert_eq!(first, "first\n");
    call.signal(Signal::STOP);
    world.file("go", "");
    crate::world::content_of(&sent);
    // tidy-allow: sleep, the pause is what is tested, and the keep-alive of the command is fixed
    thread::sleep(LONGER_THAN_KEEPALIVE);
    call.signal(Signal::CONT);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_code(&call.finish(), 0);
    let expected: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    assert_eq!(rest, expected);
}

/// A request that came while the worker was stopped lies in its socket, and is read before the caller
/// is judged by its silence. The caller is driven by hand, because one that keeps to the protocol
/// gives a worker up that says nothing for so long.
#[test]
fn a_request_that_came_while_the_worker_was_stopped_is_served() {
    let world = World::new();
    let name = "test/pause/echo";
    let server = Server::start(world.stoppable(["serve", name, "--", "cat"]));
    let mut caller = RawMux::greet(address(&server)).unwrap();
    // Served once before, so that the connection is known to be whole.
    caller.open(name, &Bytes::from("before"), 0).unwrap();
    assert!(matches!(caller.next_end(), Some(Terminal::Complete { .. })));
    server.signal(Signal::STOP);
    // In several frames, all of which come while it is stopped.
    let body = Bytes::from(format!("{:x<99}\n", "").repeat(2_000));
    caller.open(name, &body, 0).unwrap();
    // tidy-allow: sleep, the pause is what is tested, and the keep-alive of the command is fixed
    thread::sleep(LONGER_THAN_KEEPALIVE);
    server.signal(Signal::CONT);
    let (items, end) = caller.next_response().expect("the caller was given up");
    assert!(matches!(end, Terminal::Complete { .. }), "{end:?}");
    assert_eq!(items.len(), 2_000);
}
