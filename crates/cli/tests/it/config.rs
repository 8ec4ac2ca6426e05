//! Settings from the environment, as processes meet them.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Output},
};

use crate::world::{Running, Server, World, assert_code, stderr, stdout};

/// A command line with variables of its own.
fn with<'a>(mut command: Command, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Command {
    command.envs(pairs);
    command
}

fn run(world: &World, args: &[&str], pairs: &[(&str, &str)]) -> Output {
    Running::start(with(world.sinew(args), pairs.iter().copied())).finish()
}

#[test]
fn the_page_of_settings_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    // A packed crate comes without the documents.
    let Ok(page) = fs::read_to_string(path) else { return };
    let output = World::new().run(["config", "reference", "--format", "markdown"]);
    assert_code(&output, 0);
    assert!(
        stdout(&output) == page,
        "docs/settings.md is old: cargo run -- config reference --format markdown > \
         docs/settings.md"
    );
}

#[test]
fn the_reference_is_printed_also_in_an_environment_that_is_wrong() {
    let world = World::new();
    let output = run(&world, &["config", "reference"], &[("SINEW_NO_SUCH", "1"), ("DYN_LOG", "=")]);
    assert_code(&output, 0);
    let text = stdout(&output);
    assert!(text.contains("SINEW_LISTEN_PORT, DYN_TCP_RPC_PORT"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
}

#[test]
fn a_page_that_cannot_be_written_is_an_error() {
    let world = World::new();
    for args in [&["config", "reference"][..], &["completions", "bash"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = world.sinew(args);
        command.stdout(full);
        let output = Running::start(command).finish();
        assert_code(&output, 1);
        let said = stderr(&output);
        assert!(said.contains("cannot write the output: No space left on device"), "{said}");
        // A reader that went away is no error of anybody.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = world.sinew(args);
        command.stdout(writer);
        let output = Running::start(command).finish();
        assert_code(&output, 130);
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn rust_log_is_honoured_and_gives_way_to_ours() {
    let world = World::new();
    let _server = world.serve(["a/b/c", "--", "cat"]);
    let call = ["call", "a/b/c", "--data", "hi"];
    let lines = |pairs: &[(&str, &str)]| {
        let output = run(&world, &call, pairs);
        assert_code(&output, 0);
        stderr(&output).lines().filter(|line| line.contains("DEBUG")).count()
    };
    assert_eq!(lines(&[]), 0);
    assert!(lines(&[("RUST_LOG", "debug")]) > 0);
    assert!(lines(&[("DYN_LOG", "debug")]) > 0);
    assert_eq!(lines(&[("RUST_LOG", "debug"), ("SINEW_LOG", "warn")]), 0);
    for name in ["RUST_LOG", "SINEW_LOG", "DYN_LOG"] {
        let output = run(&world, &call, &[(name, "sinew=loud")]);
        assert_code(&output, 2);
        let said = stderr(&output);
        assert!(said.contains(name) && said.contains("sinew=loud"), "{said}");
    }
}

#[test]
fn a_worker_that_is_asked_for_tls_does_not_serve_plain_text() {
    let world = World::new();
    let both = [("DYN_TCP_TLS_CERT_PATH", "/c.pem"), ("DYN_TCP_TLS_KEY_PATH", "/k.pem")];
    for command in [&["serve", "a/b/c", "--", "cat"][..], &["call", "a/b/c"], &["ls"], &["demo"]] {
        let output = run(&world, command, &both);
        assert_code(&output, 2);
        let said = stderr(&output);
        assert!(said.contains("DYN_TCP_TLS_CERT_PATH") && said.contains("not in this build"));
    }
}

#[test]
fn values_that_cannot_be_read_end_every_command() {
    let world = World::new();
    for (name, value) in [
        ("DYN_TCP_RPC_PORT", "many"),
        ("DYN_ZMQ_IO_THREADS", "some"),
        ("XDG_RUNTIME_DIR", "run/user"),
        ("TMPDIR", "tmp/here"),
        ("TOKIO_WORKER_THREADS", "many"),
        ("SINEW_STARTUP_WAIT", "18446744073709551615"),
    ] {
        let output = run(&world, &["ls"], &[(name, value)]);
        assert_code(&output, 2);
        let said = stderr(&output);
        assert!(said.contains(name) && said.contains(value), "{said}");
    }
    let mut command = world.sinew(["ls"]);
    command.env("SINEW_NATS_TOKEN", OsStr::from_bytes(b"hunter2\xff"));
    let output = Running::start(command).finish();
    assert_code(&output, 2);
    let said = stderr(&output);
    assert!(said.contains("SINEW_NATS_TOKEN") && !said.contains("hunter2"), "{said}");
}

/// Serves where there can be no Unix socket, and calls from another process.
fn serves_over_tcp_alone(world: &World, runtime_dir: &str) {
    let place = format!("file:{}", world.path("discovery").display());
    let args = ["serve", "--discovery", &place, "a/b/c", "--", "cat"];
    let server = Server::start(with(world.sinew(args), [("XDG_RUNTIME_DIR", runtime_dir)]));
    let warned = server.said.iter().any(|line| line.contains("serving over TCP alone"));
    assert!(warned, "{:?}", server.said);
    for _ in 0..2 {
        let output = world.run(["call", "--discovery", &place, "a/b/c", "--data", "hi"]);
        assert_code(&output, 0);
        assert_eq!(stdout(&output).trim_end(), "hi");
    }
}

#[test]
fn a_path_too_long_for_a_socket_leaves_tcp() {
    let world = World::new();
    let deep = world.path(&"d".repeat(120));
    fs::create_dir(&deep).unwrap();
    serves_over_tcp_alone(&world, deep.to_str().unwrap());
}

#[test]
fn a_runtime_folder_that_cannot_be_written_leaves_tcp() {
    let world = World::new();
    // Below a file there is no folder, for root either.
    let file = world.file("file", "");
    serves_over_tcp_alone(&world, file.to_str().unwrap());
}

/// The TCP address that a server says it is at.
fn told(server: &Server) -> String {
    let line = server.said.last().unwrap();
    let rest = line.split_once("tcp://").unwrap().1;
    rest.split(": ").next().unwrap().to_owned()
}

#[test]
fn all_addresses_of_the_machine_are_told_as_one_that_can_be_dialled() {
    for host in ["0.0.0.0", "[::]", "::"] {
        let world = World::new();
        let pairs = [("DYN_TCP_RPC_HOST", host), ("SINEW_INSECURE", "1"), ("SINEW_UNIX", "0")];
        let server = Server::start(with(world.sinew(["serve", "a/b/c", "--", "cat"]), pairs));
        let address = told(&server);
        let ip = address.rsplit_once(':').unwrap().0;
        assert!(!["0.0.0.0", "[::]"].contains(&ip), "{address}");
        let output = world.run(["call", "a/b/c", "--data", "hi"]);
        assert_code(&output, 0);
        assert_eq!(stdout(&output).trim_end(), "hi");
    }
}

#[test]
fn an_ipv6_address_is_advertised_with_and_without_brackets_and_port() {
    for advertise in ["::1", "[::1]"] {
        let world = World::new();
        let args = ["serve", "--listen", "[::1]:0", "--advertise", advertise, "a/b/c"];
        let mut command = with(world.sinew(args), [("SINEW_UNIX", "0")]);
        command.args(["--", "cat"]);
        let server = Server::start(command);
        let address = told(&server);
        assert!(address.starts_with("[::1]:"), "{address}");
        assert_eq!(stdout(&world.run(["call", "a/b/c", "--data", "hi"])).trim_end(), "hi");
    }
    let world = World::new();
    for bad in ["0.0.0.0", "[::]:9000", "::1]:9", "h:0"] {
        let args = ["serve", "--advertise", bad, "a/b/c", "--", "cat"];
        let output = world.run(args);
        assert_code(&output, 2);
        assert!(stderr(&output).contains("advertise"), "{}", stderr(&output));
    }
}

#[test]
fn an_id_that_is_taken_gets_a_hint_about_ids() {
    let world = World::new();
    let _first = world.serve(["a/b/c", "--instance", "7", "--", "cat"]);
    let output = world.run(["serve", "a/b/c", "--instance", "7", "--", "cat"]);
    let said = stderr(&output);
    assert_code(&output, 8);
    assert!(said.contains("--instance") && !said.contains("folder"), "{said}");
    let help = stdout(&world.run(["call", "--help"]));
    let (_, of_eight) = help.split_once("\n    8  ").unwrap();
    let (of_eight, _) = of_eight.split_once("\n  130  ").unwrap();
    assert!(of_eight.contains("--instance is taken"), "{of_eight}");
}

/// The CONNECT line that a command with `args` and the variables `pairs` sends to a NATS server.
#[cfg(feature = "nats")]
fn told_to_nats(args: &[&str], pairs: &[(&str, &str)]) -> (String, Output) {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        thread,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let told = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let info = r#"{"server_id":"x","server_name":"x","version":"2.10.0","go":"go1","host":"h","port":1,"headers":true,"auth_required":true,"max_payload":1048576,"proto":1}"#;
        write!(stream, "INFO {info}\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        stream.write_all(b"-ERR 'Authorization Violation'\r\n").unwrap();
        line
    });
    let world = World::new();
    let args: Vec<_> = args.iter().map(|one| one.replace("SERVER", &server)).collect();
    let mut command = world.sinew(args);
    command.envs(pairs.iter().map(|(name, one)| (*name, one.replace("SERVER", &server))));
    let output = Running::start(command).finish();
    (told.join().unwrap(), output)
}

#[cfg(feature = "nats")]
#[test]
fn credentials_of_the_environment_go_with_a_server_of_the_command_line() {
    let user = [("SINEW_NATS_USER", "bob"), ("SINEW_NATS_PASSWORD", "hunter2")];
    let call = ["call", "n/b/c", "--data", "x"];
    let option = [&call[..], &["--nats", "nats://SERVER"]].concat();
    let variable = [&user[..], &[("SINEW_NATS_SERVER", "nats://SERVER")]].concat();
    for (args, pairs) in [(&option[..], &user[..]), (&call, &variable)] {
        let (told, output) = told_to_nats(args, pairs);
        assert!(told.contains(r#""user":"bob""#), "{told}");
        assert!(told.contains(r#""pass":"hunter2""#), "{told}");
        assert_code(&output, 8);
        let said = stderr(&output);
        let names = ["SINEW_NATS_USER", "SINEW_NATS_PASSWORD", "SINEW_NATS_TOKEN"];
        assert!(names.iter().all(|name| said.contains(name)), "{said}");
        assert!(!said.contains("--request-plane") && !said.contains("hunter2"), "{said}");
    }
    let token = told_to_nats(&option, &[("SINEW_NATS_TOKEN", "hunter2")]).0;
    assert!(token.contains(r#""auth_token":"hunter2""#), "{token}");
}

#[test]
fn a_password_in_a_server_is_refused_with_the_variables_that_take_it() {
    let world = World::new();
    for (option, names) in [
        (["--nats", "nats://bob:hunter2@h"], &["SINEW_NATS_PASSWORD", "SINEW_NATS_TOKEN"][..]),
        (["--discovery", "etcd://bob:hunter2@h:1"], &["SINEW_ETCD_PASSWORD"]),
        (["--discovery", "foo://bob:hunter2@h"], &[]),
        (["--discovery", "static:bob:hunter2@h:80"], &[]),
    ] {
        let output = world.run([&["ls"], &option[..]].concat());
        assert_code(&output, 2);
        let said = stderr(&output);
        assert!(said.contains(option[0]) && !said.contains("hunter2"), "{said}");
        assert!(names.iter().all(|name| said.contains(name)), "{said}");
        assert_eq!(said.contains("SINEW_"), !names.is_empty(), "{said}");
    }
}

#[test]
fn a_negative_time_is_called_so() {
    let world = World::new();
    for args in [
        &["call", "a/b/c", "--timeout", "-1s"][..],
        &["call", "a/b/c", "--idle-timeout", "-1"],
        &["call", "a/b/c", "--wait", "-5ms"],
        &["serve", "a/b/c", "--grace", "-1s", "--", "cat"],
    ] {
        let output = world.run(args);
        assert_code(&output, 2);
        let said = stderr(&output);
        assert!(said.contains("a time is not negative") && !said.contains("use '--"), "{said}");
    }
}
