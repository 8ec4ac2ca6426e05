//! Processes that are stopped and go on, as by a laptop's lid.

use std::{
    io::{BufRead, Read},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::world::{Running, World, assert_code};

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
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/c"]));
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
