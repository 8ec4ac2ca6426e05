//! What a call says and what it is given: pipes, headers, explanations, and its own end.

use std::{
    io::{BufRead, Write},
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::stream;
use rustix::process::Signal;
use sinew::{
    Code, DiscoverySource, EndpointName, Error, Executed, Runtime, Served, SingleIn, engine_fn,
};

use crate::world::{LIMIT, Running, World, assert_code, stderr, stdout};

/// A worker of this process, for what no program can do.
struct Worker {
    _threads: tokio::runtime::Runtime,
    _runtime: Runtime,
    _served: Served,
}

impl Worker {
    /// Serves `a/b/c` with what `answer` says to a request.
    fn start(
        world: &World,
        answer: impl Fn(&SingleIn<String>) -> Vec<Result<String, Error>> + Send + Sync + 'static,
    ) -> Self {
        let threads = tokio::runtime::Runtime::new().unwrap();
        let place = world.path("sinew").join("discovery");
        let (runtime, served) = threads.block_on(async {
            let builder = Runtime::builder().discovery(DiscoverySource::File(place));
            let runtime = builder.build().await.unwrap();
            let engine = engine_fn(move |request: SingleIn<String>| {
                let items = answer(&request);
                async move { Ok::<_, Error>(stream::iter(items)) }
            });
            let name: EndpointName = "a/b/c".parse().unwrap();
            let served = runtime.serve_named(name).engine(engine).await.unwrap();
            (runtime, served)
        });
        Self { _threads: threads, _runtime: runtime, _served: served }
    }
}

#[test]
fn a_pipe_is_read_without_being_asked_for() {
    let world = World::new();
    let _server = world.serve(["a/b/c", "--", "cat"]);
    let mut command = world.sinew(["call", "a/b/c"]);
    command.stdin(Stdio::piped());
    let mut call = command.spawn().unwrap();
    call.stdin.take().unwrap().write_all(b"x\n").unwrap();
    assert_eq!(stdout(&call.wait_with_output().unwrap()), "x\n");

    let mut command = world.sinew(["call", "a/b/c", "--data", "given"]);
    let (input, _open) = std::io::pipe().unwrap();
    command.stdin(input);
    assert_eq!(stdout(&Running::start(command).finish()), "given", "and not otherwise");
}

#[test]
fn headers_reach_the_handler() {
    let world = World::new();
    let _worker = Worker::start(&world, |request| {
        let headers = request.context().headers();
        ["tenant", "note"].map(|name| Ok(headers.get(name).unwrap_or("none").to_owned())).into()
    });
    let output = world.run([
        "call",
        "a/b/c",
        "--data",
        "x",
        "--header",
        "tenant=blue",
        "--header",
        "note=a=b",
    ]);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "blue\na=b\n");
    let bad = world.run(["call", "a/b/c", "--data", "x", "--header", "bad name=x"]);
    assert_code(&bad, 2);
}

/// Which of two values would count is a guess.
#[test]
fn a_header_that_is_given_twice_is_refused_by_name() {
    let world = World::new();
    let twice = ["--header", "a=first", "--header", "b=1", "--header", "a=second"];
    let output = world.run([&["call", "a/b/c", "--data", "x"][..], &twice].concat());
    assert_code(&output, 2);
    let said = stderr(&output);
    assert!(said.contains("--header a is given more than once"), "{said}");
    assert!(!said.contains("first") && !said.contains("second"), "a value may be secret: {said}");
}

/// A handler may hand on the refusal of a service that it asked: it ran all the same.
#[test]
fn what_printed_an_item_is_not_said_to_have_been_refused() {
    let world = World::new();
    let _worker = Worker::start(&world, |request| {
        let code = match request.data().as_str() {
            "draining" => Code::Draining,
            "nobody" => Code::NoInstances,
            _ => Code::Overloaded,
        };
        let error = Error::new(code, "the service behind is full").with_executed(Executed::No);
        vec![Ok("one".to_owned()), Ok("two".to_owned()), Err(error)]
    });
    for data in ["full", "draining", "nobody"] {
        let output = world.run(["call", "a/b/c", "--data", data]);
        assert_code(&output, 1);
        assert_eq!(stdout(&output), "one\ntwo\n");
        assert!(!stderr(&output).contains("nothing ran"), "{}", stderr(&output));
    }
}

#[test]
fn one_shot_calls_spread_by_the_weights() {
    let world = World::new();
    let _heavy = world.serve(["a/b/c", "--weight", "3", "--", "echo", "heavy"]);
    let _light = world.serve(["a/b/c", "--weight", "1", "--", "echo", "light"]);
    let call = |_| stdout(&world.run(["call", "a/b/c"]));
    let light = (0..40).map(call).filter(|said| said == "light\n").count();
    // 10 are expected; outside of this falls one run in 20,000.
    assert!((1..=22).contains(&light), "{light} of 40 went to the lighter one");
}

#[test]
fn json_lines_of_a_program_are_json() {
    let world = World::new();
    let _server = world.serve(["a/b/c", "--", "printf", "%s\\n", "{\"n\": 1.10}", "plain"]);
    let output = world.run(["call", "a/b/c", "--json"]);
    assert_eq!(stdout(&output), "{\"n\": 1.10}\n\"plain\\n\"\n");
}

#[test]
fn nobody_there_says_where_it_looked_and_for_how_long() {
    let world = World::new();
    let output = world.run(["call", "a/b/c", "--wait", "300ms"]);
    assert_code(&output, 4);
    let place = format!("No instances found for a/b/c in file:{}", world.path("sinew").display());
    assert!(stderr(&output).contains(&place), "{}", stderr(&output));
    let output = world.run(["call", "a/b/c", "--wait", "60s", "--timeout", "200ms"]);
    assert_code(&output, 4);
    let said = stderr(&output);
    assert!(said.contains("(waited 0.") && !said.contains("60 s"), "{said}");
    let output = world.run(["call", "a/b/c", "--wait", "0s"]);
    assert_code(&output, 4);
    assert!(stderr(&output).contains("(looked once)"), "{}", stderr(&output));
    let output = world.run(["call", "a/b/c", "--timeout", "0s"]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("no time for anything"), "{}", stderr(&output));

    let empty = world.run(["ls", "x/y/z"]);
    let place = format!("No instances found for x/y/z in file:{}", world.path("sinew").display());
    assert!(stderr(&empty).starts_with(&place), "{}", stderr(&empty));

    let _one = world.serve(["a/b/c", "--instance", "1f", "--", "cat"]);
    let output = world.run(["call", "a/b/c", "--wait", "0s"]);
    assert_code(&output, 0);
    let output = world.run(["call", "a/b/c", "--instance", "2", "--wait", "100ms"]);
    assert_code(&output, 4);
    assert!(stderr(&output).contains("there are 1f"), "{}", stderr(&output));
}

#[test]
fn looking_leaves_no_folder_behind() {
    let world = World::new();
    let place = world.path("typo").join("folder");
    let discovery = format!("file:{}", place.display());
    assert_code(&world.run(["--discovery", &discovery, "ls"]), 0);
    let call = world.run(["--discovery", &discovery, "call", "a/b/c", "--wait", "50ms"]);
    assert_code(&call, 4);
    assert!(!world.path("typo").exists());
    assert_code(&world.run(["ls"]), 0);
    assert!(!world.path("sinew").join("discovery").exists(), "nor the one of the user");
}

#[test]
fn addresses_that_do_not_say_what_they_serve_are_asked_for_by_name() {
    let world = World::new();
    let output = world.run(["ls", "--discovery", "static:127.0.0.1:9"]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("ls NAME"), "{}", stderr(&output));
    assert_code(&world.run(["ls", "--discovery", "static:127.0.0.1:9", "a/b/c"]), 0);
}

#[test]
fn a_reader_that_goes_ends_a_command_that_is_silent() {
    let world = World::new();
    let _server = world.serve(["a/b/c", "--", "sh", "-c", "echo one; exec sleep 60"]);
    for args in [&["call", "a/b/c"][..], &["ls", "--watch"], &["ls", "--watch", "--json"]] {
        let (command, mut lines) = Running::start_reading(world.sinew(args));
        lines.read_line(&mut String::new()).unwrap();
        let begun = Instant::now();
        drop(lines);
        let output = command.finish();
        assert_code(&output, 130);
        assert_eq!(stderr(&output), "", "{args:?}");
        assert!(begun.elapsed() < LIMIT / 2, "{args:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn what_is_waited_for_is_said_at_once_and_a_signal_ends_the_waiting() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nats = format!("nats://{}", silent.local_addr().unwrap());
    let options = ["--request-plane", "nats", "--nats", &nats];
    let world = World::new();
    for args in [&["serve", "a/b/c", "--", "cat"][..], &["call", "a/b/c"], &["ls"]] {
        for signal in [Signal::INT, Signal::TERM] {
            let begun = Instant::now();
            let command = world.sinew(options.iter().chain(args));
            let (command, mut said) = Running::start_listening(command);
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            assert!(line.starts_with(&format!("waiting for NATS at {nats}")), "{args:?}: {line}");
            assert!(begun.elapsed() < Duration::from_secs(4), "{args:?}: {:?}", begun.elapsed());
            command.signal(signal);
            let signalled = Instant::now();
            assert_code(&command.finish(), 130);
            assert!(signalled.elapsed() < Duration::from_secs(2), "{args:?}");
        }
    }
}

#[test]
fn a_set_up_that_fails_has_a_code_of_its_own() {
    let world = World::new();
    world.file("file", "");
    for args in [
        &["--discovery", "file:file/in/it", "ls"][..],
        &["--discovery", "file:file/in/it", "call", "a/b/c"],
        &["--discovery", "file:file/in/it", "serve", "a/b/c", "--", "cat"],
    ] {
        assert_code(&world.run(args), 8);
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    assert_code(&world.run(["serve", "a/b/c", "--listen", &listen, "--", "cat"]), 8);
}

#[test]
fn shells_get_a_completion_script() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = world.run(["completions", shell]);
        assert_code(&output, 0);
        assert!(stdout(&output).contains("explain"), "{shell}");
    }
    assert_code(&world.run(["completions", "tcl"]), 2);
}

#[test]
fn attempts_at_one_instance_name_it_once() {
    let world = World::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = format!("static:127.0.0.1:{port}");
    let output = world.run(["--discovery", &place, "call", "a/b/c"]);
    assert_code(&output, 6);
    let said = stderr(&output);
    let behind = said.split("attempts at ").nth(1).map(|ids| ids.split(')').next().unwrap());
    assert!(behind.is_none_or(|ids| !ids.contains(',')), "{said}");
}
