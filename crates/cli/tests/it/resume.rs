//! `sinew call --resume`: another process goes on with the response of a call.

use std::io::BufRead;

use rustix::process::Signal;

use crate::world::{Running, World, assert_code, stderr, stdout};

/// A command that writes numbers until a file is there, and then some more.
fn numbers(go: &std::path::Path) -> String {
    format!(
        "for n in 0 1 2 3 4; do echo $n; done; while [ ! -e {} ]; do sleep 0.01; done; \
         for n in 5 6 7; do echo $n; done",
        go.display()
    )
}

/// Starts a call, reads its token and its first five lines, and kills it.
fn killed_call(world: &World) -> String {
    let mut command = world.sinew(["call", "a/b/c", "--print-token"]);
    command.stdout(std::process::Stdio::piped());
    let (call, mut said) = Running::start_listening(command);
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let token = line.trim().strip_prefix("resume token: ").expect(&line).to_owned();
    call.signal(Signal::KILL);
    call.finish();
    token
}

#[test]
fn a_call_that_is_killed_is_taken_over_within_the_grace() {
    let world = World::new();
    let go = world.path("go");
    let _server = world.serve(["a/b/c", "--", "sh", "-c", &numbers(&go)]);
    let token = killed_call(&world);
    world.file("go", "");
    let resumed = world.run(["call", "a/b/c", "--resume", &token]);
    assert_code(&resumed, 0);
    assert_eq!(stdout(&resumed), "0\n1\n2\n3\n4\n5\n6\n7\n");
    let gone = world.run(["call", "a/b/c", "--resume", &token]);
    assert_ne!(gone.status.code(), Some(0));
    assert!(stderr(&gone).contains("kept here"), "{}", stderr(&gone));
}

#[test]
fn what_is_retained_is_read_by_several_and_after_the_end() {
    let world = World::new();
    let go = world.path("go");
    let args = ["a/b/c", "--retain", "60s", "--", "sh", "-c", &numbers(&go)];
    let mut server = world.serve(args);
    let token = killed_call(&world);
    let beside = Running::start(world.sinew(["call", "a/b/c", "--resume", &token, "--from", "3"]));
    world.file("go", "");
    let beside = beside.finish();
    assert_code(&beside, 0);
    assert_eq!(stdout(&beside), "3\n4\n5\n6\n7\n");
    for (from, expected) in [("0", "0\n1\n2\n3\n4\n5\n6\n7\n"), ("6", "6\n7\n"), ("8", "")] {
        let resumed = world.run(["call", "a/b/c", "--resume", &token, "--from", from]);
        assert_code(&resumed, 0);
        assert_eq!(stdout(&resumed), expected);
    }
    let beyond = world.run(["call", "a/b/c", "--resume", &token, "--from", "9"]);
    assert!(stderr(&beyond).contains("those from 0 to before 8"), "{}", stderr(&beyond));
    server.signal(Signal::TERM);
    assert_eq!(server.code(), Some(0));
    let gone = world.run(["call", "a/b/c", "--resume", &token, "--wait", "0s"]);
    assert_ne!(gone.status.code(), Some(0));
}

#[test]
fn a_token_need_not_be_an_argument_that_all_users_see() {
    let world = World::new();
    let go = world.path("go");
    let args = ["a/b/c", "--retain", "60s", "--", "sh", "-c", &numbers(&go)];
    let _server = world.serve(args);
    let token = killed_call(&world);
    world.file("go", "");
    // Read to its end, so that all items are there.
    assert_code(&world.run(["call", "a/b/c", "--from", "3", "--resume", &token]), 0);
    let mut command = world.sinew(["call", "a/b/c", "--from", "6", "--resume", "env:STREAM"]);
    command.env("STREAM", &token);
    let resumed = Running::start(command).finish();
    assert_code(&resumed, 0);
    assert_eq!(stdout(&resumed), "6\n7\n");
    // A line of a file that has more of them.
    let file = world.file("token", format!("{token}\nand more\n"));
    let mut command = world.sinew(["call", "a/b/c", "--from", "6", "--resume", "-"]);
    command.stdin(std::fs::File::open(file).unwrap());
    let resumed = Running::start(command).finish();
    assert_code(&resumed, 0);
    assert_eq!(stdout(&resumed), "6\n7\n");
}

#[test]
fn an_item_that_no_response_has_is_refused() {
    let world = World::new();
    let go = world.path("go");
    let _server = world.serve(["a/b/c", "--retain", "60s", "--", "sh", "-c", &numbers(&go)]);
    let token = killed_call(&world);
    let most = u64::MAX.to_string();
    let refused = world.run(["call", "a/b/c", "--resume", &token, "--from", &most]);
    assert!(stderr(&refused).contains(&format!("no response has an item {most}")));
    assert!(!stderr(&refused).contains("panic"), "{}", stderr(&refused));
}

#[test]
fn no_message_shows_what_is_nearly_a_token() {
    let world = World::new();
    let nearly = format!("s1-{}", "feed".repeat(23));
    let file = world.file("token", &nearly);
    let argument = world.sinew(["call", "a/b/c", "--resume", &nearly]);
    let mut variable = world.sinew(["call", "a/b/c", "--resume", "env:STREAM"]);
    variable.env("STREAM", &nearly);
    let mut input = world.sinew(["call", "a/b/c", "--resume", "-"]);
    input.stdin(std::fs::File::open(file).unwrap());
    let mut nothing = world.sinew(["call", "a/b/c", "--resume", "-"]);
    nothing.stdin(std::process::Stdio::null());
    for (command, place) in [
        (argument, "--resume:"),
        (variable, "$STREAM:"),
        (input, "standard input:"),
        (nothing, "standard input:"),
    ] {
        let refused = Running::start(command).finish();
        assert_code(&refused, 2);
        let said = stderr(&refused);
        assert!(said.contains(place) && said.contains("no resume token"), "{said}");
        assert!(!said.contains("feed"), "{said}");
    }
    let unset = world.run(["call", "a/b/c", "--resume", "env:STREAM"]);
    assert_code(&unset, 2);
    assert!(stderr(&unset).contains("no such variable"), "{}", stderr(&unset));
}

#[test]
fn what_is_no_token_and_what_makes_no_sense_beside_one_is_a_usage_error() {
    let world = World::new();
    let output = world.run(["call", "a/b/c", "--resume", "s1-what"]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("no resume token"), "{}", stderr(&output));
    assert_code(&world.run(["call", "a/b/c", "--from", "3"]), 2);
}
