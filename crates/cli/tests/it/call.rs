//! Items arrive exactly, and each end has its exit code.

use std::{
    io::{BufRead, Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::world::{LIMIT, Running, World, assert_code, content_of, stderr, stdout};

/// What `tr ' ' '\n'` itself makes of a file.
fn tr(input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("tr")
        .args([" ", "\\n"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.stdout
}

const SERVE_TR: [&str; 5] = ["text/words/split", "--", "tr", " ", "\\n"];

#[test]
fn the_output_is_the_commands_byte_for_byte() {
    let world = World::new();
    let _server = world.serve(SERVE_TR);
    let text = "to be or not\nto be\n".repeat(500);
    let long = "x".repeat(300_000) + " y";
    let binary: Vec<u8> =
        (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cases: [&[u8]; 6] =
        [text.as_bytes(), b"no newline at the end", b"", b"\n", long.as_bytes(), &binary];
    for (number, input) in cases.into_iter().enumerate() {
        let file = world.file("input", input);
        let output = world.run([
            "call".as_ref(),
            "text/words/split".as_ref(),
            "--file".as_ref(),
            file.as_os_str(),
        ]);
        assert_code(&output, 0);
        assert!(output.stdout == tr(input), "case {number} differs");
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn data_comes_from_the_command_line_or_from_standard_input() {
    let world = World::new();
    let _server = world.serve(SERVE_TR);
    let output = world.run(["call", "text/words/split", "--data", "-a b"]);
    assert_eq!(stdout(&output), "-a\nb");
    let mut command = world.sinew(["call", "text/words/split", "-"]);
    let input = world.file("input", "c d");
    command.stdin(std::fs::File::open(input).unwrap());
    assert_eq!(stdout(&Running::start(command).finish()), "c\nd");
    let output = world.run(["call", "text/words/split", "--data", "a b", "--json"]);
    assert_eq!(stdout(&output), "\"a\\n\"\n\"b\"\n");
    assert_eq!(stdout(&world.run(["call", "text/words/split"])), "");
}

#[test]
fn two_hundred_calls_at_once_are_all_exact() {
    let world = World::new();
    let _server = world.serve(["--concurrency", "256"].into_iter().chain(SERVE_TR));
    let text = "all of it and in order ".repeat(200);
    let file = world.file("input", &text);
    let start = |_| {
        let mut command = world.sinew(["call", "text/words/split", "--file"]);
        // Two hundred processes start on two cores, perhaps beside other tests.
        command.arg(&file).args(["--wait", "15s"]);
        Running::start(command)
    };
    let calls: Vec<_> = (0..200).map(start).collect();
    let expected = tr(text.as_bytes());
    for call in calls {
        let output = call.finish();
        assert_code(&output, 0);
        assert!(output.stdout == expected);
    }
}

#[test]
fn a_failure_of_the_command_is_told_with_its_last_words() {
    let world = World::new();
    let script = "echo partial; echo broken pipe dream >&2; exit 3";
    let _server = world.serve(["a/b/fails", "--", "sh", "-c", script]);
    let output = world.run(["call", "a/b/fails"]);
    assert_code(&output, 1);
    assert_eq!(stdout(&output), "partial\n");
    let error = stderr(&output);
    assert!(error.starts_with("error: sh exited with code 3: broken pipe dream"), "{error}");
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let world = World::new();
    assert_code(&world.run(["call", "not-a-name"]), 2);
    assert_code(&world.run(["call", "a/b/c", "--file", "/nowhere/at/all"]), 2);
    assert_code(&world.run(["frobnicate"]), 2);
}

#[test]
fn a_worker_that_is_killed_midway_truncates_within_two_seconds() {
    let world = World::new();
    let server = world.serve(["a/b/stream", "--", "sh", "-c", "echo first; exec sleep 60"]);
    let (call, mut output) = Running::start_reading(world.sinew(["call", "a/b/stream"]));
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    let killed = Instant::now();
    server.signal(Signal::KILL);
    let ended = call.finish();
    assert!(killed.elapsed() < Duration::from_secs(2), "took {:?}", killed.elapsed());
    assert_code(&ended, 3);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(stderr(&ended).contains("after 1 items"), "{}", stderr(&ended));
}

#[test]
fn nobody_there_says_what_to_do() {
    let world = World::new();
    let begun = Instant::now();
    let output = world.run(["call", "a/b/c", "--wait", "100ms"]);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_code(&output, 4);
    assert!(stderr(&output).contains("sinew serve a/b/c -- COMMAND"), "{}", stderr(&output));

    let _server = world.serve(["a/b/c", "--instance", "1", "--", "cat"]);
    let wrong = ["call", "a/b/c", "--instance", "2", "--wait", "100ms"];
    assert_code(&world.run(wrong), 4);
    assert_code(&world.run(["call", "a/b/c", "--instance", "1"]), 0);
}

#[test]
fn an_instance_that_appears_meanwhile_is_called() {
    let world = World::new();
    let call = Running::start(world.sinew(["call", "a/b/c", "--data", "hi", "--wait", "15s"]));
    let _server = world.serve(["a/b/c", "--", "cat"]);
    let output = call.finish();
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "hi");
}

#[test]
fn the_deadline_ends_the_call_and_the_command() {
    let world = World::new();
    let marker = world.path("marker");
    let script =
        format!("trap 'echo ended > {}; exit' TERM; echo a; sleep 60 & wait", marker.display());
    let _server = world.serve(["a/b/slow", "--", "sh", "-c", &script]);
    let begun = Instant::now();
    let output = world.run(["call", "a/b/slow", "--timeout", "500ms"]);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_code(&output, 5);
    assert_eq!(stdout(&output), "a\n");
    assert_eq!(content_of(&marker), "ended\n");
}

#[test]
fn who_cannot_be_reached_or_refuses_is_told_apart() {
    let world = World::new();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let discovery = format!("static:127.0.0.1:{port}");
    let output = world.run(["--discovery", &discovery, "call", "a/b/c"]);
    assert_code(&output, 6);

    let args = ["a/b/one", "--concurrency", "1", "--", "sh", "-c", "echo busy; exec sleep 60"];
    let _server = world.serve(args);
    let (busy, mut lines) = Running::start_reading(world.sinew(["call", "a/b/one"]));
    lines.read_line(&mut String::new()).unwrap();
    let output = world.run(["call", "a/b/one"]);
    assert_code(&output, 6);
    assert!(stderr(&output).contains("--concurrency"), "{}", stderr(&output));
    drop(busy);
}

#[test]
fn an_interruption_ends_the_call_and_the_command() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = World::new();
        let marker = world.path("marker");
        let script =
            format!("trap 'echo ended > {}; exit' TERM; echo a; sleep 60 & wait", marker.display());
        let _server = world.serve(["a/b/slow", "--", "sh", "-c", &script]);
        let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/slow"]));
        lines.read_line(&mut String::new()).unwrap();
        call.signal(signal);
        let output = call.finish();
        assert_code(&output, 130);
        assert_eq!(stderr(&output), "");
        assert_eq!(content_of(&marker), "ended\n");
    }
}

#[test]
fn nobody_reading_the_output_ends_the_call_quietly() {
    let world = World::new();
    let _server = world.serve(["a/b/yes", "--", "yes"]);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/yes"]));
    lines.read_line(&mut String::new()).unwrap();
    drop(lines);
    let begun = Instant::now();
    let output = call.finish();
    assert!(begun.elapsed() < LIMIT);
    assert_code(&output, 130);
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_server_at_a_known_address_needs_no_discovery() {
    let world = World::new();
    let server = world.serve(["--discovery", "memory", "a/b/c", "--", "cat"]);
    let line = server.said.last().unwrap();
    let hint = line.split("call it: sinew --discovery ").nth(1).expect("how to call it");
    let discovery = hint.split(' ').next().unwrap();
    let output = world.run(["--discovery", discovery, "call", "a/b/c", "--data", "hi"]);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "hi");
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let world = World::new();
    let _server = world.serve(["a/b/c", "--", "cat"]);
    let mut command = world.sinew(["call", "a/b/c", "--data", "hi"]);
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let output = Running::start(command).finish();
    assert_code(&output, 1);
    assert!(stderr(&output).contains("cannot write the output"), "{}", stderr(&output));
}

#[test]
fn the_deadline_holds_also_when_the_output_is_stuck() {
    let world = World::new();
    let _server = world.serve(["a/b/yes", "--", "yes"]);
    let (call, lines) =
        Running::start_reading(world.sinew(["call", "a/b/yes", "--timeout", "300ms"]));
    assert_code(&call.finish(), 5);
    drop(lines);
}

#[test]
fn a_traced_call_says_on_standard_error_what_connection_it_made() {
    let world = World::new();
    let _server = world.serve(["test/trace/echo", "--", "cat"]);
    let output = world.run(["call", "test/trace/echo", "--data", "hello", "--trace"]);
    assert_code(&output, 0);
    assert_eq!(stdout(&output).trim_end(), "hello");
    let told = stderr(&output);
    let lines: Vec<_> = told.lines().collect();
    assert!(lines.len() == 1 && lines[0].contains("s connected to unix:///"), "{told}");
    let output = world.run(["call", "test/trace/echo", "--data", "hello"]);
    assert_eq!(stderr(&output), "");
}
