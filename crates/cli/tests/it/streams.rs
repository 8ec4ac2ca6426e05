//! Standard output and standard error that are closed, full or not read change no outcome.

use std::{
    fs::File,
    io::{BufRead, PipeReader, PipeWriter, Read},
    process::{Command, Stdio},
    time::Instant,
};

use rustix::process::Signal;

use crate::world::{LIMIT, Running, World, assert_code, content_of, stderr, stdout, until};

/// Streams that cannot be written to; the reader is kept where its absence would be noticed.
fn broken() -> Vec<(&'static str, Stdio, Option<PipeReader>)> {
    let (reader, closed) = pipe();
    drop(reader);
    let (unread, full) = pipe();
    fill(&full);
    vec![
        ("closed", closed.into(), None),
        ("full disk", File::options().write(true).open("/dev/full").unwrap().into(), None),
        ("full pipe", full.into(), Some(unread)),
    ]
}

fn pipe() -> (PipeReader, PipeWriter) {
    std::io::pipe().unwrap()
}

/// Fills a pipe to the last byte: a helper writes until it would block.
fn fill(pipe: &PipeWriter) {
    let mut dd = Command::new("dd");
    dd.args(["if=/dev/zero", "of=/dev/stdout", "bs=1", "oflag=nonblock", "status=none"]);
    dd.stdout(pipe.try_clone().unwrap()).stderr(Stdio::null());
    dd.status().unwrap();
}

fn serve_and_drain(world: &World, what: &str, stderr: Stdio, log: &str) {
    let (go, ended) = (world.path(&format!("go {what}")), world.path(&format!("ended {what}")));
    let script = format!(
        "echo a; while [ ! -e '{}' ]; do sleep 0.01; done; echo b; echo done > '{}'",
        go.display(),
        ended.display()
    );
    let mut command = world.sinew(["serve", "--log", log, "a/b/c", "--", "sh", "-c", &script]);
    command.stderr(stderr);
    let server = Running::start(command);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/c", "--wait", "15s"]));
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "a\n", "{what}");
    server.signal(Signal::TERM);
    // It drains, and says so on the stream that is broken.
    until("the endpoint to be withdrawn", || stdout(&world.run(["ls", "--json"])).trim() == "[]");
    File::create(&go).unwrap();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "a\nb\n", "{what}");
    assert_code(&call.finish(), 0);
    assert_eq!(server.finish().status.code(), Some(0), "{what}");
    assert_eq!(content_of(&ended), "done\n", "{what}");
}

#[test]
fn a_server_drains_whatever_its_standard_error_is() {
    for (what, stream, _reader) in broken() {
        let world = World::new();
        serve_and_drain(&world, what, stream, "warn");
    }
}

#[test]
fn logs_that_nobody_reads_hold_nothing_up() {
    // Far more log lines than a pipe takes, none of them read.
    let world = World::new();
    let (unread, pipe) = pipe();
    serve_and_drain(&world, "unread", pipe.into(), "trace");
    drop(unread);
}

#[test]
fn the_exit_code_of_a_call_does_not_depend_on_standard_error() {
    let world = World::new();
    let _server = world.serve(["a/b/fails", "--", "sh", "-c", "echo partial; exit 3"]);
    for (what, stream, _reader) in broken() {
        let mut command = world.sinew(["call", "a/b/fails"]);
        command.stderr(stream);
        let output = Running::start(command).finish();
        assert_eq!(
            (output.status.code(), stdout(&output)),
            (Some(1), "partial\n".into()),
            "{what}"
        );
    }
    for (what, stream, _reader) in broken() {
        let mut command = world.sinew(["call", "no/such/endpoint", "--wait", "10ms"]);
        command.stderr(stream);
        assert_eq!(Running::start(command).finish().status.code(), Some(4), "{what}");
    }
}

#[test]
fn a_demo_ends_with_its_verdict_whatever_its_streams_are() {
    let world = World::new();
    let file = world.file("text", "the quick brown fox jumps over the lazy dog ".repeat(20));
    let demo = || {
        let mut command = world.sinew(["demo"]);
        command.arg(&file);
        command
    };
    for (what, stream, _reader) in broken() {
        let mut command = demo();
        command.stderr(stream);
        let output = Running::start(command).finish();
        assert_eq!(output.status.code(), Some(0), "{what}");
        assert!(stdout(&output).contains("│ all"), "{what}");
    }
    for (what, stream, reader) in broken() {
        let mut command = demo();
        command.stdout(stream);
        let running = Running::start(command);
        // Somebody reads late: until then it waits, as a program behind a pipe does.
        drop(reader);
        let output = running.finish();
        assert_eq!(output.status.code(), Some(0), "{what}: {}", stderr(&output));
    }
}

#[test]
fn output_that_cannot_be_written_has_an_end_of_its_own() {
    let world = World::new();
    let _server = world.serve(["a/b/c", "--", "cat"]);
    for (code, end) in [(1, "/dev/full"), (130, "")] {
        let mut command = world.sinew(["call", "a/b/c", "--data", "hi"]);
        let (reader, writer) = pipe();
        drop(reader);
        match end {
            "" => command.stdout(writer),
            full => command.stdout(File::options().write(true).open(full).unwrap()),
        };
        let begun = Instant::now();
        assert_code(&Running::start(command).finish(), code);
        assert!(begun.elapsed() < LIMIT);
    }
}

#[test]
fn a_program_that_writes_errors_without_end_holds_nothing_up() {
    let world = World::new();
    let (mut reader, pipe) = pipe();
    let script = "while read -r line; do id=${line#*:}; id=${id%%,*}; \
                  head -c 300000 /dev/zero | tr '\\0' e >&2; \
                  echo \"{\\\"id\\\":$id,\\\"end\\\":true}\"; done";
    let mut command = world.sinew(["serve", "a/b/loud", "--persistent", "--", "sh", "-c", script]);
    command.stderr(pipe);
    let server = Running::start(command);
    for _ in 0..3 {
        assert_code(&world.run(["call", "a/b/loud", "--data", "x", "--wait", "15s"]), 0);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.finish().status.code(), Some(0));
    let mut said = Vec::new();
    reader.read_to_end(&mut said).unwrap();
    assert!(said.len() <= 1 << 20, "{}", said.len());
}
