//! The deadline holds for the whole command, whatever is silent, and who is slow is passed by.

use std::{
    io::BufRead,
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::world::{Running, Server, World, assert_code, stderr, stdout};

/// What a busy machine may add to a deadline. Without its rule a call took two seconds more.
const SLACK: Duration = Duration::from_millis(1_500);

/// Runs a call that must end at its deadline.
#[track_caller]
fn ends_at(world: &World, timeout: Duration, before: &[&str], after: &[&str]) -> String {
    let timeout_text = format!("{}ms", timeout.as_millis());
    let call = ["call", "a/b/c", "--timeout", &timeout_text];
    let args = before.iter().chain(&call).chain(after);
    let begun = Instant::now();
    let output = world.run(args.copied());
    let took = begun.elapsed();
    assert_code(&output, 5);
    assert!(took >= timeout && took < timeout + SLACK, "took {took:?}: {}", stderr(&output));
    stderr(&output)
}

/// A worker that is stopped, and killed in the end: a stopped one does not hear of anything else.
struct Stopped(Server);

impl Stopped {
    fn start(world: &World, args: &[&str]) -> Self {
        let args = ["serve"].iter().chain(args);
        let server = Server::start(world.stoppable(args));
        server.signal(Signal::STOP);
        Self(server)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.signal(Signal::KILL);
    }
}

/// A listener whose backlog is full: it does not even complete a connect.
struct BlackHole {
    _listener: Socket,
    _waiting: Vec<TcpStream>,
    address: SocketAddr,
}

impl BlackHole {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let short = Duration::from_millis(200);
        let mut waiting = Vec::new();
        while let Ok(one) = TcpStream::connect_timeout(&address, short) {
            waiting.push(one);
            assert!(waiting.len() < 64, "the backlog does not fill");
        }
        Self { _listener: listener, _waiting: waiting, address }
    }
}

fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_stopped_worker_costs_no_more_than_the_deadline() {
    let world = World::new();
    let _stopped = Stopped::start(&world, &["a/b/c", "--", "cat"]);
    for millis in [200, 1_200] {
        let said = ends_at(&world, Duration::from_millis(millis), &[], &[]);
        assert!(said.contains("nothing ran"), "{said}");
    }
}

#[test]
fn a_worker_that_stops_midway_ends_the_call_at_the_deadline() {
    let world = World::new();
    let script = "echo first; exec sleep 60";
    let server = Server::start(world.stoppable(["serve", "a/b/c", "--", "sh", "-c", script]));
    let begun = Instant::now();
    let (call, mut lines) =
        Running::start_reading(world.sinew(["call", "a/b/c", "--timeout", "2s"]));
    lines.read_line(&mut String::new()).unwrap();
    server.signal(Signal::STOP);
    let stopped = Stopped(server);
    let output = call.finish();
    let took = begun.elapsed();
    assert_code(&output, 5);
    assert!(took < Duration::from_secs(2) + SLACK, "took {took:?}");
    assert!(stderr(&output).contains("may have run"), "{}", stderr(&output));
    drop(stopped);
}

#[test]
fn a_black_hole_costs_no_more_than_the_deadline() {
    let world = World::new();
    let (_listener, address) = silent();
    let hole = BlackHole::new();
    for address in [address, hole.address] {
        let place = format!("static:{address}");
        let said = ends_at(&world, Duration::from_millis(200), &["--discovery", &place], &[]);
        assert!(said.contains("nothing ran"), "{said}");
    }
}

#[test]
fn input_that_does_not_end_costs_no_more_than_the_deadline() {
    let world = World::new();
    let _server = world.serve(["a/b/c", "--", "cat"]);
    let (_open, input) = std::io::pipe().map(|(input, open)| (open, input)).unwrap();
    let mut command = world.sinew(["call", "a/b/c", "-", "--timeout", "200ms"]);
    command.stdin(input);
    let begun = Instant::now();
    let output = Running::start(command).finish();
    assert_code(&output, 5);
    assert!(begun.elapsed() < Duration::from_millis(200) + SLACK);
    assert!(stderr(&output).contains("nothing was sent"), "{}", stderr(&output));
}

#[cfg(feature = "nats")]
#[test]
fn a_silent_nats_is_a_deadline_with_one_and_a_set_up_failure_without() {
    let world = World::new();
    let (_listener, address) = silent();
    let nats = format!("nats://user:secret@{address}");
    let options = ["--request-plane", "nats", "--nats", &nats];
    // A user in a URL may be refused; the same without one is waited for.
    let plain = format!("nats://{address}");
    let options = match world.run([&options[..], &["ls"]].concat()).status.code() {
        Some(2) => ["--request-plane", "nats", "--nats", &plain],
        _ => options,
    };
    let said = ends_at(&world, Duration::from_millis(200), &options, &[]);
    assert!(said.contains(&format!("NATS at nats://{address}")), "{said}");
    assert!(said.contains("nothing was sent") && !said.contains("secret"), "{said}");

    let output = world.run(options.iter().copied().chain(["call", "a/b/c"]));
    assert_code(&output, 8);
    let said = stderr(&output);
    assert!(
        said.starts_with(&format!("waiting for NATS at nats://{address}, up to 5 s")),
        "{said}"
    );
}

#[cfg(feature = "etcd")]
#[test]
fn a_silent_etcd_is_a_deadline_with_one_and_a_set_up_failure_without() {
    let world = World::new();
    let (_listener, address) = silent();
    let place = format!("etcd://{address}");
    let said = ends_at(&world, Duration::from_millis(200), &["--discovery", &place], &[]);
    assert!(said.contains(&format!("etcd://{address}")), "{said}");
    let output = world.run(["--discovery", &place, "call", "a/b/c"]);
    assert_code(&output, 8);
    assert!(stderr(&output).contains("waiting for etcd://"), "{}", stderr(&output));

    // One that is not there at all.
    drop(_listener);
    assert_code(&world.run(["--discovery", &place, "call", "a/b/c"]), 8);
}

#[test]
fn a_stopped_worker_beside_a_live_one_holds_nothing_up() {
    let world = World::new();
    let _live = world.serve(["a/b/c", "--instance", "1", "--", "cat"]);
    let _stopped = Stopped::start(&world, &["a/b/c", "--instance", "2", "--", "cat"]);
    for _ in 0..8 {
        let begun = Instant::now();
        let output = world.run(["call", "a/b/c", "--data", "hi", "--explain"]);
        assert_code(&output, 0);
        assert_eq!(stdout(&output), "hi");
        assert!(stderr(&output).starts_with("served by 1 "), "{}", stderr(&output));
        // It took twelve seconds when the first that was asked was the stopped one.
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_dead_address_of_a_name_beside_a_live_one_holds_nothing_up() {
    let world = World::new();
    let live = world.serve(["--discovery", "memory", "a/b/c", "--", "cat"]);
    let line = live.said.last().unwrap();
    let live = line.split("static:").nth(1).unwrap().split(' ').next().unwrap();
    let (_listener, dead) = silent();
    let hole = BlackHole::new();
    let place = format!("static:{dead},{},{live}", hole.address);
    for _ in 0..4 {
        let begun = Instant::now();
        let output = world.run(["--discovery", &place, "call", "a/b/c", "--data", "hi"]);
        assert_code(&output, 0);
        assert_eq!(stdout(&output), "hi");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
}
