//! `sinew drain`: a worker goes out of service and loses no request.

use std::io::BufRead;

use crate::world::{Running, World, assert_code, stderr, stdout, until};

/// A command that writes a line, waits for a file, and writes another.
fn waiting(go: &std::path::Path) -> String {
    format!("echo a; while [ ! -e {} ]; do sleep 0.01; done; echo b", go.display())
}

#[test]
fn a_drained_worker_finishes_what_it_has_and_ends() {
    let world = World::new();
    let go = world.path("go");
    let args = ["a/b/c", "--instance", "2a", "--", "sh", "-c", &waiting(&go)];
    let mut server = world.serve(args);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/c"]));
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let (drain, mut said) = Running::start_listening(world.sinew(["drain", "2a"]));
    let mut progress = String::new();
    said.read_line(&mut progress).unwrap();
    assert!(progress.contains("1 requests in flight, which have 30 s to end"), "{progress}");
    until("the endpoint to be withdrawn", || stdout(&world.run(["ls", "--json"])).trim() == "[]");
    world.file("go", "");
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "a\nb\n");
    assert_code(&call.finish(), 0);
    let drained = drain.finish();
    assert_code(&drained, 0);
    let expected =
        format!("a/b/c 2a (process {}) drained: 1 finished, 0 handed over, 0 cut\n", server.pid());
    assert_eq!(stdout(&drained), expected);
    assert_eq!(server.code(), Some(0));
    let last = server.rest().pop().unwrap();
    assert_eq!(last, "ended; requests in flight: 1 finished, 0 handed over, 0 cut");
}

#[test]
fn what_outlives_the_grace_is_cut_and_both_say_so() {
    let world = World::new();
    let args = ["a/b/c", "--grace", "100ms", "--", "sh", "-c", "echo a; exec sleep 60"];
    let mut server = world.serve(args);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/c"]));
    lines.read_line(&mut String::new()).unwrap();
    let drained = world.run(["drain", "a/b/c"]);
    assert_code(&drained, 9);
    assert!(stdout(&drained).contains("0 finished, 0 handed over, 1 cut"), "{}", stdout(&drained));
    assert_code(&call.finish(), 3);
    assert_eq!(server.code(), Some(9));
    assert!(server.rest().pop().unwrap().ends_with("0 finished, 0 handed over, 1 cut"));
}

#[test]
fn an_endpoint_that_nobody_serves_is_an_error_that_says_where_it_looked() {
    let world = World::new();
    let _other = world.serve(["a/b/other", "--", "cat"]);
    let output = world.run(["drain", "a/b/c"]);
    assert_code(&output, 4);
    let said = stderr(&output);
    assert!(said.contains("serves a/b/c") && said.contains("control"), "{said}");
    let output = world.run(["drain", "no-id"]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("hexadecimal"), "{}", stderr(&output));
    assert_eq!(stdout(&world.run(["call", "a/b/other", "--data", "x"])), "x");
}

#[test]
fn a_response_that_can_be_made_again_goes_on_at_another_worker() {
    let world = World::new();
    let go = world.path("go");
    let script = waiting(&go);
    let serve = |id| {
        let options = ["a/b/c", "--instance", id, "--continuation", "replayable"];
        world.serve(options.into_iter().chain(["--", "sh", "-c", &script]))
    };
    let mut first = serve("1");
    let command = world.sinew(["call", "a/b/c", "--trace"]);
    let (call, mut lines) = Running::start_reading(command);
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let _second = serve("2");
    first.signal(rustix::process::Signal::TERM);
    assert_eq!(first.code(), Some(0));
    let last = first.rest().pop().unwrap();
    assert_eq!(last, "ended; requests in flight: 0 finished, 1 handed over, 0 cut");
    world.file("go", "");
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "a\nb\n");
    let called = call.finish();
    assert_code(&called, 0);
    assert!(stderr(&called).contains("moved from 1 to 2 before item 1"), "{}", stderr(&called));
}
