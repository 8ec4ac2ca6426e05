//! Programs end with their worker, however it ends, and do not get its secrets.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{Running, Server, World, assert_code, content_of, stdout, until};

/// A program with a child in its group, one in a session of its own, one without environment, and
/// one that ignores SIGTERM. Their numbers go to the file `$1`, one a line, itself last.
const FAMILY: &str = r#"
sleep 600 & echo $! >> "$1"
setsid sleep 601 & echo $! >> "$1"
env -i sleep 602 & echo $! >> "$1"
sh -c 'trap "" TERM; while :; do sleep 603 & wait; done' & echo $! >> "$1"
echo $$ >> "$1"
read -r request
echo '{"id":1,"item":"begun"}'
wait
"#;

/// True while it runs; one that has ended and was not collected does not.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A call that goes on as long as its output is held.
type Call = (Running, BufReader<ChildStdout>);

/// Serves the family and calls it. The numbers of its members.
fn family(world: &World, options: &[&str]) -> (Server, Call, Vec<i32>) {
    let script = world.file("family.sh", FAMILY);
    let pids = world.path("pids");
    let mut args: Vec<_> = options.iter().map(Into::into).collect();
    args.extend(["a/b/c".into(), "--".into(), "sh".into(), script, pids.clone()]);
    let server = world.serve(args);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/c", "--data", "x"]));
    lines.read_line(&mut String::new()).unwrap();
    let pids: Vec<i32> =
        fs::read_to_string(pids).unwrap().lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 5);
    assert!(pids.iter().all(|pid| runs(*pid)), "{pids:?}");
    (server, (call, lines), pids)
}

fn all_end(pids: &[i32]) {
    until(&format!("{pids:?} to end"), || !pids.iter().any(|pid| runs(*pid)));
}

#[test]
fn programs_and_what_they_start_end_with_a_worker_that_is_killed() {
    for options in [&[][..], &["--persistent"]] {
        for signal in [Signal::KILL, Signal::QUIT, Signal::ABORT] {
            let world = World::new();
            let (mut server, call, pids) = family(&world, options);
            server.signal(signal);
            assert_eq!(server.code(), None, "ended by the signal");
            all_end(&pids);
            assert_code(&call.0.finish(), 3);
        }
    }
}

#[test]
fn programs_that_are_idle_end_with_a_worker_that_is_killed() {
    let world = World::new();
    let pid = world.path("pid");
    let script = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1; done", pid.display());
    let mut server = world.serve(["a/b/c", "--persistent", "--", "sh", "-c", &script]);
    let pid = content_of(&pid).trim().parse().unwrap();
    server.signal(Signal::KILL);
    assert_eq!(server.code(), None);
    all_end(&[pid]);
}

#[test]
fn a_hangup_is_an_orderly_end() {
    let world = World::new();
    let (mut server, call, pids) = family(&world, &["--grace", "100ms", "--kill-grace", "300ms"]);
    server.signal(Signal::HUP);
    assert_eq!(server.code(), Some(9));
    // The worker has waited for them: they are gone when it is.
    assert_eq!(pids.iter().find(|pid| runs(**pid)), None);
    assert_code(&call.0.finish(), 3);
}

#[test]
fn a_hangup_that_is_ignored_from_the_start_stays_so() {
    let world = World::new();
    let shell = r#"trap '' HUP; exec "$@""#;
    let mut command = world.sinew(["serve", "a/b/c", "--", "cat"]);
    let program = command.get_program().to_owned();
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut through = world.through("sh", ["-c", shell, "sh"]);
    command = {
        through.arg(program).args(args);
        through
    };
    let mut server = Server::start(command);
    server.signal(Signal::HUP);
    assert_eq!(stdout(&world.run(["call", "a/b/c", "--data", "hi"])), "hi");
    server.signal(Signal::TERM);
    assert_eq!(server.code(), Some(0));
}

#[test]
fn a_hangup_cancels_a_call() {
    let world = World::new();
    let _server = world.serve(["a/b/c", "--", "sh", "-c", "echo a; exec sleep 60"]);
    let (call, mut lines) = Running::start_reading(world.sinew(["call", "a/b/c"]));
    lines.read_line(&mut String::new()).unwrap();
    call.signal(Signal::HUP);
    assert_code(&call.finish(), 130);
}

#[test]
fn children_of_a_parent_that_ignores_them_are_waited_for() {
    for options in [&[][..], &["--persistent"]] {
        let world = World::new();
        let script = "read -r line; echo '{\"id\":1,\"item\":\"one\",\"end\":true}'";
        let program = ["a/b/c", "--", "sh", "-c", script];
        let command = world.sinew(["serve"].iter().chain(options).chain(&program));
        let mut through = world.through("sh", ["-c", r#"trap '' CHLD; exec "$@""#, "sh"]);
        through.arg(command.get_program()).args(command.get_args());
        let _server = Server::start(through);
        assert_code(&world.run(["call", "a/b/c", "--data", "x\n"]), 0);
    }
}

/// The guard of a worker: its child that is called so.
fn guard_of(server: &Server) -> Option<Pid> {
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let name = format!("{pid} (serve-guard) ");
        let rest = stat.strip_prefix(&name).unwrap_or_default();
        !rest.starts_with('Z') && rest.split(' ').nth(1) == Some(&server.pid().to_string())
    };
    numbers.into_iter().find(is_it).and_then(Pid::from_raw)
}

#[test]
fn a_guard_that_is_killed_is_replaced_and_ends_nothing() {
    let world = World::new();
    let (mut server, call, pids) = family(&world, &[]);
    let mut first = None;
    until("the guard to be there", || {
        first = guard_of(&server);
        first.is_some()
    });
    kill_process(first.unwrap(), Signal::KILL).unwrap();
    until("another guard", || guard_of(&server).is_some_and(|guard| Some(guard) != first));
    assert!(pids.iter().all(|pid| runs(*pid)), "no program has ended for that");
    server.signal(Signal::KILL);
    assert_eq!(server.code(), None);
    all_end(&pids);
    drop(call);
}

#[test]
fn the_guard_ends_with_the_worker() {
    let world = World::new();
    let mut server = world.serve(["a/b/c", "--", "cat"]);
    let mut guard = None;
    until("the guard to be there", || {
        guard = guard_of(&server);
        guard.is_some()
    });
    let guard = guard.unwrap().as_raw_nonzero().get();
    server.signal(Signal::TERM);
    assert_eq!(server.code(), Some(0));
    assert!(!runs(guard), "waited for by the worker");
}

#[test]
fn the_first_process_of_a_container_collects_orphans() {
    let in_container = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut probe = Command::new("unshare");
    probe.args(in_container).arg("true").stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        eprintln!("not tested: this system does not let this user make a namespace of processes");
        return;
    }
    let world = World::new();
    // A request leaves an orphan behind, which ends a moment later, or counts what has ended.
    let script = "if [ \"$(cat)\" = count ]; then grep -l '^State:.Z' /proc/[0-9]*/status | wc -l; \
                  else (sleep 0.01 >/dev/null 2>&1 &); echo left; fi";
    let command = world.sinew(["serve", "a/b/c", "--", "sh", "-c", script]);
    let mut through = world.through("unshare", in_container);
    through.arg(command.get_program()).args(command.get_args());
    let server = Server::start(through);
    let call = |data| {
        let output = world.run(["call", "a/b/c", "--data", data]);
        stdout(&output)
    };
    for _ in 0..20 {
        assert_eq!(call("x"), "left\n");
    }
    until("the orphans to be collected", || {
        let left: u32 = call("count").trim().parse().unwrap();
        left == 0
    });
    // It does not pass other signals on.
    server.signal(Signal::KILL);
}

#[test]
fn a_program_gets_no_secret_unless_it_is_named() {
    let world = World::new();
    let secrets = [
        ("SINEW_ETCD_PASSWORD", "hunter2"),
        ("SINEW_ETCD_USER", "bob"),
        ("NATS_AUTH_USERNAME", "bob"),
        ("NATS_AUTH_PASSWORD", "hunter2"),
        ("ETCD_AUTH_PASSWORD", "hunter2"),
        ("MY_TOKEN", "hunter2"),
        ("DATABASE", "postgres://bob:hunter2@host/x"),
    ];
    for options in [&[][..], &["--persistent"]] {
        for (pass, expected) in [(&[][..], false), (&["--pass-env", "MY_TOKEN"], true)] {
            let script = "all=$(env | tr '\\n\"\\\\' ' ..'); read -r line; \
                          echo \"{\\\"id\\\":1,\\\"item\\\":\\\"$all\\\",\\\"end\\\":true}\"";
            let program = ["a/b/c", "--", "sh", "-c", script];
            let serve = ["serve"].iter().chain(options).chain(pass);
            let mut command = world.sinew(serve.chain(&program));
            command.env("PLAIN", "kept").envs(secrets);
            let server = Server::start(command);
            let said = server.said.join("\n");
            assert!(
                said.contains("withheld from the command") && said.contains("DATABASE"),
                "{said}"
            );
            assert!(!said.contains("hunter2"), "{said}");
            let environment = stdout(&world.run(["call", "a/b/c", "--data", "x\n"]));
            assert!(environment.contains("PLAIN=kept"), "{environment}");
            assert_eq!(environment.contains("MY_TOKEN=hunter2"), expected, "{environment}");
            assert_eq!(environment.matches("hunter2").count(), usize::from(expected));
        }
    }
    let output = world.run(["serve", "a/b/c", "--pass-env", "NOT_THERE", "--", "cat"]);
    assert_code(&output, 2);
}
