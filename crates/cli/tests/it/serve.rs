//! What `sinew serve` refuses, bounds and shows.

use std::{
    fs,
    io::{BufRead, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::world::{Running, World, assert_code, stderr, stdout};

#[test]
fn a_program_that_is_not_there_is_refused_at_the_start() {
    let world = World::new();
    let output = world.run(["serve", "a/b/c", "--", "no-such-program-here"]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("no-such-program-here: no such program"));
}

#[test]
fn a_program_that_cannot_be_started_is_refused_at_the_start_with_the_reason() {
    let world = World::new();
    let program = |name: &str, content: &str, mode| {
        let path = world.file(name, content);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let plain = program("plain", "#!/bin/sh\n", 0o644);
    let lost = program("lost", "#!/no/such/interpreter\n", 0o755);
    let env = program("env", "#!/usr/bin/env no-such-program-here\n", 0o755);
    for (path, why) in
        [(plain, "chmod +x"), (lost, "/no/such/interpreter"), (env, "no-such-program-here")]
    {
        for options in [&[][..], &["--persistent"]] {
            let serve = ["serve", "a/b/c"].iter().chain(options).chain(&["--"]);
            let mut command = world.sinew(serve);
            command.arg(&path);
            let output = Running::start(command).finish();
            assert_code(&output, 2);
            let said = stderr(&output);
            assert!(said.contains(why) && said.contains(path.to_str().unwrap()), "{said}");
        }
    }
}

#[test]
fn where_to_listen_is_read_as_people_write_it() {
    let world = World::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for listen in [format!(":{port}"), format!("localhost:{port}")] {
        let mut server = world.serve(["a/b/c", "--listen", &listen, "--", "cat"]);
        let expected = format!("at tcp://127.0.0.1:{port}:");
        assert!(server.said.last().unwrap().contains(&expected), "{:?}", server.said);
        server.signal(Signal::TERM);
        assert_eq!(server.code(), Some(0));
    }
    for listen in ["9000", "*:9000", "no-such-host:9000", "127.0.0.1"] {
        let output = world.run(["serve", "a/b/c", "--listen", listen, "--", "cat"]);
        assert_code(&output, 2);
        assert!(stderr(&output).contains("such as 127.0.0.1:9000"), "{}", stderr(&output));
    }
    let output = world.run(["serve", "a/b/c", "--concurrency", "0", "--", "cat"]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("1 or more"), "{}", stderr(&output));
}

#[test]
fn a_port_in_use_and_an_id_in_use_say_what_to_do() {
    let world = World::new();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    for option in ["--listen", "--metrics"] {
        let output = world.run(["serve", "a/b/c", option, &taken, "--", "cat"]);
        assert_code(&output, 8);
        let said = stderr(&output);
        assert!(said.contains(&taken) && said.contains("another process listens there"), "{said}");
    }
    let _server = world.serve(["a/b/c", "--instance", "2a", "--", "cat"]);
    let output = world.run(["serve", "a/b/c", "--instance", "2a", "--", "cat"]);
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(said.contains("a/b/c/2a") && said.contains("leave --instance out"), "{said}");
    assert!(!said.contains("folder"), "{said}");
}

#[test]
fn a_line_of_json_stays_json() {
    let world = World::new();
    let script = r#"printf '{"n": 1}\nplain "text"\n[1,\n'"#;
    let _server = world.serve(["a/b/c", "--", "sh", "-c", script]);
    let output = world.run(["call", "a/b/c", "--json"]);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "{\"n\": 1}\n\"plain \\\"text\\\"\\n\"\n\"[1,\\n\"\n");
    assert_eq!(stdout(&world.run(["call", "a/b/c"])), "{\"n\": 1}\nplain \"text\"\n[1,\n");
}

#[test]
fn plain_text_beyond_loopback_needs_a_word() {
    let world = World::new();
    for option in ["--listen", "--metrics"] {
        let output = world.run(["serve", "a/b/c", option, "0.0.0.0:0", "--", "cat"]);
        assert_code(&output, 2);
        assert!(stderr(&output).contains("--insecure"), "{}", stderr(&output));
    }
    let args = ["a/b/c", "--listen", "0.0.0.0:0", "--insecure", "--", "cat"];
    let _server = world.serve(args);
    assert_eq!(stdout(&world.run(["call", "a/b/c", "--data", "hi"])), "hi");
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_endless_stream_and_a_slow_reader_cost_no_memory_and_hold_nobody_up() {
    let world = World::new();
    // One line that is endless for the caller, and short answers beside it.
    let script = "read -r what; case $what in yes) exec yes;; *) echo quick;; esac";
    let server = world.serve(["a/b/yes", "--", "sh", "-c", script]);
    let (slow, mut lines) =
        Running::start_reading(world.sinew(["call", "a/b/yes", "--data", "yes\n"]));
    let mut chunk = vec![0; 1 << 20];
    lines.read_exact(&mut chunk).unwrap();
    let before = resident(server.pid());
    // Read a little, then not at all, while others are served.
    for _ in 0..20 {
        lines.read_exact(&mut chunk[..4096]).unwrap();
        let begun = Instant::now();
        let output = world.run(["call", "a/b/yes", "--data", "quick\n"]);
        assert_eq!(stdout(&output), "quick\n");
        assert!(begun.elapsed() < Duration::from_secs(3), "took {:?}", begun.elapsed());
    }
    let grown = resident(server.pid()).saturating_sub(before);
    assert!(grown < 8 << 10, "grew by {grown} KiB from {before} KiB");
    drop(slow);
}

#[test]
fn metrics_count_calls() {
    let world = World::new();
    let server = world.serve(["a/b/c", "--metrics", "127.0.0.1:0", "--", "cat"]);
    let url = server.said.iter().find_map(|line| line.strip_prefix("metrics at http://")).unwrap();
    let address = url.strip_suffix("/metrics").unwrap();
    assert_code(&world.run(["call", "a/b/c", "--data", "hi"]), 0);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let requests = "ingress_requests_total{endpoint=\"a/b/c\"} 1";
    assert!(text.contains(requests), "{text}");
    assert!(text.contains("ingress_in_flight_requests{endpoint=\"a/b/c\"} 0"), "{text}");
}

#[test]
fn the_state_of_a_worker_is_shown_beside_its_metrics() {
    let world = World::new();
    let args = ["a/b/c", "--instance", "1f", "--metrics", "127.0.0.1:0", "--", "cat"];
    let server = world.serve(args);
    let url = server.said.iter().find_map(|line| line.strip_prefix("metrics at http://")).unwrap();
    let mut stream = TcpStream::connect(url.strip_suffix("/metrics").unwrap()).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let endpoint =
        r#"{"status":"ready","endpoints":[{"endpoint":"a/b/c","instance":"1f","ready":true}]"#;
    assert!(text.contains(endpoint), "{text}");
    assert!(text.contains(r#"{"listener":"tcp","up":true}"#), "{text}");
}

#[test]
fn requests_are_logged_at_debug_and_not_at_info() {
    let world = World::new();
    for (level, expected) in [("info", false), ("debug", true)] {
        let server = world.serve(["--log", level, "a/b/c", "--", "cat"]);
        assert_code(&world.run(["call", "a/b/c", "--data", "hi"]), 0);
        let said = if expected {
            // Waits for it.
            loop {
                let line = server.next_line();
                if line.contains("answered") {
                    break true;
                }
            }
        } else {
            let mut server = server;
            server.signal(Signal::TERM);
            assert_eq!(server.code(), Some(0));
            server.rest().iter().any(|line| line.contains("a/b/c"))
        };
        assert_eq!(said, expected, "{level}");
    }
}

#[test]
fn idle_items_are_shown_as_soon_as_they_are_written() {
    let world = World::new();
    let go = world.path("go");
    let script =
        format!("echo now; while [ ! -e {} ]; do sleep 0.01; done; echo later", go.display());
    let _server = world.serve(["a/b/c", "--", "sh", "-c", &script]);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/c"]));
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "now\n", "before the command goes on");
    world.file("go", "");
    line.clear();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "later\n");
    assert_code(&call.finish(), 0);
}
