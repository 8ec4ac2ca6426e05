//! What `sinew serve --metrics` counts: real calls, scraped from the real endpoint.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use sinew_plane::{Code, Error, Terminal};

use crate::raw_mux::{RawMux, address};
use crate::world::{Running, Server, World, assert_code, stderr, stdout, until};

/// The metrics of a worker as it shows them now.
fn scrape(server: &Server) -> String {
    let url = server.said.iter().find_map(|line| line.strip_prefix("metrics at http://")).unwrap();
    let address = url.strip_suffix("/metrics").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The value of one series; 0 where there is none yet.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// What the worker counts of a transport.
fn serving(server: &Server, metric: &str, transport: &str) -> f64 {
    let series = format!("transport_{metric}{{transport=\"{transport}\",side=\"serving\"}}");
    value(&scrape(server), &series)
}

fn errors(server: &Server, transport: &str, category: &str) -> f64 {
    let labels = format!("transport=\"{transport}\",side=\"serving\",category=\"{category}\"");
    value(&scrape(server), &format!("transport_errors_total{{{labels}}}"))
}

/// `static:HOST:PORT` of where a worker listens on TCP.
fn over_tcp(server: &Server) -> String {
    let line = server.said.last().unwrap();
    let port: String = line
        .split_once("127.0.0.1:")
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect())
        .unwrap();
    format!("static:127.0.0.1:{port}")
}

#[test]
fn a_worker_counts_the_requests_that_each_transport_brings() {
    let world = World::new();
    let program = ["--", "sh", "-c", "cat; exit $(cat status)"];
    world.file("status", "0");
    let options = ["a/b/c", "--metrics", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let server = world.serve(options.into_iter().chain(program));
    let tcp = over_tcp(&server);
    let body = "x".repeat(3_000);
    for _ in 0..3 {
        assert_code(&world.run(["call", "a/b/c", "--data", &body]), 0);
    }
    for _ in 0..2 {
        assert_code(&world.run(["--discovery", &tcp, "call", "a/b/c", "--data", &body]), 0);
    }
    for (transport, requests) in [("unix", 3.0), ("tcp", 2.0)] {
        // The last item leaves before the end is counted.
        until("every response to be over", || {
            serving(&server, "active_streams", transport) == 0.0
                && serving(&server, "active_connections", transport) == 0.0
        });
        assert_eq!(serving(&server, "requests_total", transport), requests, "{transport}");
        let timed = serving(&server, "request_latency_seconds_count", transport);
        assert_eq!(timed, requests, "{transport}");
        // The body goes there and comes back; frames stand around it.
        for metric in ["received_bytes_total", "sent_bytes_total"] {
            let bytes = serving(&server, metric, transport);
            let (least, most) = (requests * 3_000.0, requests * 4_000.0);
            assert!((least..most).contains(&bytes), "{transport} {metric}: {bytes}");
        }
        assert_eq!(errors(&server, transport, "application"), 0.0, "{transport}");
    }

    world.file("status", "3");
    assert_code(&world.run(["call", "a/b/c", "--data", "x"]), 1);
    until("the failure to be counted", || errors(&server, "unix", "application") == 1.0);
    // A name that is not served here is refused before anything runs, and counted.
    assert_ne!(world.run(["--discovery", &tcp, "call", "a/b/other"]).status.code(), Some(0));
    assert!(serving(&server, "requests_total", "tcp") >= 3.0);
}

#[test]
fn a_worker_shows_what_is_open_while_it_is_and_what_it_refuses() {
    let world = World::new();
    let options = ["a/b/c", "--metrics", "127.0.0.1:0", "--concurrency", "1"];
    let program = ["--", "sh", "-c", "echo begun; while [ ! -e go ]; do sleep 0.01; done"];
    let server = world.serve(options.into_iter().chain(program));
    let open = Running::start(world.sinew(["call", "a/b/c", "--data", "x"]));
    until("the stream to be open", || {
        serving(&server, "active_streams", "unix") == 1.0
            && serving(&server, "request_latency_seconds_count", "unix") == 1.0
    });
    assert_eq!(serving(&server, "active_connections", "unix"), 1.0);
    let refused = world.run(["call", "a/b/c", "--data", "x"]);
    assert_ne!(refused.status.code(), Some(0), "{}", stdout(&refused));
    assert!(errors(&server, "unix", "resource") >= 1.0, "{}", scrape(&server));
    world.file("go", "");
    assert_code(&open.finish(), 0);
    until("the stream to be over", || {
        serving(&server, "active_streams", "unix") == 0.0
            && serving(&server, "active_connections", "unix") == 0.0
    });
}

/// What a connection refuses reaches no endpoint, and is counted all the same.
#[test]
fn a_worker_counts_what_its_connections_refuse() {
    let world = World::new();
    let server = world.serve(["a/b/c", "--metrics", "127.0.0.1:0", "--", "cat"]);
    let mut peer = RawMux::greet(address(&server)).unwrap();
    peer.open_twice("a/b/c");
    let ends = [peer.next_end().unwrap(), peer.next_end().unwrap()];
    let is_duplicate = |end: &Terminal| matches!(end, Terminal::Failed { error } if error.code() == Code::DuplicateStream);
    assert_eq!(ends.iter().filter(|end| is_duplicate(end)).count(), 1, "{ends:?}");
    assert_eq!(serving(&server, "requests_total", "tcp"), 2.0);
    let fault = Error::new(Code::DuplicateStream, "").fault();
    assert_eq!(errors(&server, "tcp", fault.as_str()), 1.0, "{}", scrape(&server));
}

#[test]
fn a_port_that_nobody_listens_on_is_named_with_what_the_system_says() {
    let world = World::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let discovery = format!("static:127.0.0.1:{port}");
    let output = world.run(["--discovery", &discovery, "call", "a/b/c", "--data", "x"]);
    assert_code(&output, 6);
    let said = stderr(&output);
    assert!(said.contains("Connection refused"), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
}

/// Over NATS, where every response is dialled back to its caller.
#[cfg(feature = "services")]
mod over_nats {
    use super::*;

    /// `sinew serve` or `sinew call` with the variables that Dynamo's deployments set.
    fn command(world: &World, args: &[&str], pool: &[(&str, &str)]) -> std::process::Command {
        let nats = std::env::var("SINEW_TEST_NATS").expect(
            "SINEW_TEST_NATS: run the tests with `cargo xtask test`, which starts a server",
        );
        let mut command = world.sinew(args);
        command.env("NATS_SERVER", nats).envs(pool.iter().copied());
        // The older name of the variable for the plane.
        command.env("DYN_REQUEST_PLANE_MODE", "nats");
        command
    }

    /// Calls a worker so often one after the other, and returns what it counted.
    fn counted(name: &str, pool: &[(&str, &str)], calls: usize) -> String {
        let world = World::new();
        let options = ["serve", name, "--metrics", "127.0.0.1:0", "--", "cat"];
        let server = Server::start(command(&world, &options, pool));
        for _ in 0..calls {
            let call = command(&world, &["call", name, "--data", "hi", "--wait", "10s"], pool);
            let output = Running::start(call).finish();
            assert_code(&output, 0);
            assert_eq!(stdout(&output).trim_end(), "hi");
        }
        until("every response to be over", || serving(&server, "active_streams", "nats") == 0.0);
        scrape(&server)
    }

    #[test]
    fn a_shared_connection_is_counted_with_the_time_that_it_took_to_get_one() {
        let text = counted("metrics/pool/on", &[("DYN_TCP_POOL_ENABLED", "true")], 3);
        // Each call is a process with a port of its own, so none finds a connection that is there.
        assert_eq!(value(&text, "tcp_pool_connections_created_total"), 3.0, "{text}");
        assert_eq!(value(&text, "tcp_pool_acquisition_latency_seconds_count"), 3.0, "{text}");
        assert!(value(&text, "tcp_pool_acquisition_latency_seconds_sum") > 0.0, "{text}");
        let nats = "{transport=\"nats\",side=\"serving\"}";
        assert_eq!(value(&text, &format!("transport_requests_total{nats}")), 3.0, "{text}");
        // What dials back is a connection of the serving side.
        let tcp = "{transport=\"tcp\",side=\"serving\"}";
        assert!(value(&text, &format!("transport_sent_bytes_total{tcp}")) > 0.0, "{text}");
    }

    #[test]
    fn without_the_pool_each_response_has_a_connection_of_its_own() {
        let text = counted("metrics/pool/off", &[("DYN_TCP_POOL_ENABLED", "false")], 2);
        assert_eq!(value(&text, "tcp_pool_connections_created_total"), 0.0, "{text}");
        assert_eq!(value(&text, "tcp_pool_acquisition_latency_seconds_count"), 0.0, "{text}");
        let tcp = "{transport=\"tcp\",side=\"serving\"}";
        assert!(value(&text, &format!("transport_sent_bytes_total{tcp}")) > 0.0, "{text}");
    }

    #[test]
    fn a_pool_that_makes_no_sense_is_refused_at_the_start() {
        for (variable, bad) in
            [("DYN_TCP_POOL_ENABLED", "perhaps"), ("DYN_TCP_POOL_MAX_PER_TARGET", "many")]
        {
            let world = World::new();
            let command = command(&world, &["serve", "a/b/c", "--", "cat"], &[(variable, bad)]);
            let output = Running::start(command).finish();
            assert_code(&output, 2);
            assert!(stderr(&output).contains(variable), "{}", stderr(&output));
        }
    }
}
