//! Another local user, who makes our folders first, forges records, or swaps sockets.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixListener,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::world::{Running, Server, World, assert_code, stderr, stdout};

/// `nobody`, as most systems number it.
const STRANGER: u32 = 65_534;

/// Set for the child that plays the stranger: where it is to listen.
const FORGED: &str = "SINEW_TEST_FORGED_SOCKET";

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        let _ = writeln!(io::stderr(), "not run: acting as another user needs root");
    }
    is_root
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A place for temporary files as all users share it, and the command with nothing else.
fn shared(world: &World) -> PathBuf {
    set_mode(&world.path(""), 0o711);
    let tmp = world.path("tmp");
    fs::create_dir(&tmp).unwrap();
    set_mode(&tmp, 0o1777);
    tmp
}

fn without_runtime_dir(world: &World, tmp: &Path, args: &[&str]) -> Command {
    let mut command = world.sinew(args);
    command.env_remove("XDG_RUNTIME_DIR").env("TMPDIR", tmp);
    command
}

/// What a stranger does in a shell.
fn as_stranger(script: &str) {
    let mut shell = Command::new("sh");
    let status = shell.args(["-c", script]).uid(STRANGER).gid(STRANGER).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn a_default_folder_that_another_user_made_first_is_not_used() {
    if !is_root() {
        return;
    }
    for made in ["mkdir -p D/discovery/v1/instances D/sockets; chmod -R 0777 D", "ln -s /tmp D"] {
        let world = World::new();
        let tmp = shared(&world);
        let ours = tmp.join("sinew-0");
        as_stranger(&made.replace('D', ours.to_str().unwrap()));
        for args in [&["serve", "a/b/c", "--", "cat"][..], &["ls"], &["call", "a/b/c"]] {
            let output = Running::start(without_runtime_dir(&world, &tmp, args)).finish();
            assert!(!output.status.success(), "{args:?}");
            let said = stderr(&output);
            assert!(said.contains(ours.to_str().unwrap()), "{args:?}: {said}");
            assert!(said.contains(&STRANGER.to_string()), "{args:?}: {said}");
        }
    }
}

#[test]
fn the_default_folders_are_closed_to_everyone_else() {
    let world = World::new();
    let tmp = shared(&world);
    let _server =
        Server::start(without_runtime_dir(&world, &tmp, &["serve", "a/b/c", "--", "cat"]));
    let ours = fs::read_dir(&tmp).unwrap().next().unwrap().unwrap().path();
    for folder in ["", "discovery", "discovery/v1", "discovery/v1/instances", "sockets"] {
        let mode = fs::metadata(ours.join(folder)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{folder}");
    }
    let output = Running::start(without_runtime_dir(&world, &tmp, &["call", "a/b/c"])).finish();
    assert_code(&output, 0);
}

#[test]
fn a_record_of_another_user_is_believed_only_when_that_user_is_listed() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let server = world.serve(["a/b/c", "--instance", "5", "--discovery", "file:reg", "--", "cat"]);
    let records = world.path("reg/v1/instances");
    let (own, forged) = (records.join("a%2Fb%2Fc%2F5"), records.join("a%2Fb%2Fc%2F6"));
    let text = fs::read_to_string(&own).unwrap();
    fs::write(&forged, text.replace("\"instance_id\":5", "\"instance_id\":6")).unwrap();
    let ls = ["ls", "--json", "--discovery", "file:reg"];
    assert_eq!(stdout(&world.run(ls)).matches("a/b/c\"").count(), 2, "ours, both of them");
    chown(&forged, Some(STRANGER), None).unwrap();
    let output = world.run(ls);
    assert_eq!(stdout(&output).matches("a/b/c\"").count(), 1);
    assert!(stderr(&output).contains(&STRANGER.to_string()), "{}", stderr(&output));
    let mut trusting = world.sinew(ls);
    trusting.env("SINEW_DISCOVERY_USERS", STRANGER.to_string());
    assert_eq!(stdout(&Running::start(trusting).finish()).matches("a/b/c\"").count(), 2);
    drop(server);
}

#[test]
fn a_folder_that_others_may_write_is_refused_by_name() {
    let world = World::new();
    fs::create_dir(world.path("reg")).unwrap();
    for mode in [0o777, 0o1777, 0o775] {
        set_mode(&world.path("reg"), mode);
        for args in [&["serve", "a/b/c", "--", "cat"][..], &["ls"], &["call", "a/b/c"]] {
            let mut command = world.sinew(args);
            command.env("SINEW_DISCOVERY", "file:reg");
            let output = Running::start(command).finish();
            assert!(!output.status.success(), "{args:?} {mode:o}");
            let said = stderr(&output);
            assert!(said.contains("reg") && said.contains("chmod"), "{said}");
        }
    }
}

#[test]
fn looking_makes_no_folder() {
    let world = World::new();
    for args in [
        &["ls", "--discovery", "file:typo/dir"][..],
        &["ls"],
        &["call", "a/b/c", "--wait", "0s", "--discovery", "file:typo/dir"],
    ] {
        let _ = world.run(args);
        let made: Vec<_> = fs::read_dir(world.path("")).unwrap().flatten().collect();
        assert!(made.is_empty(), "{args:?}: {made:?}");
    }
}

/// Plays the stranger in a process of its own: says on standard output what it got.
#[test]
fn a_socket_swapped_under_a_running_worker_gets_no_request() {
    if let Some(path) = std::env::var_os(FORGED) {
        return listen_as_stranger(Path::new(&path));
    }
    if !is_root() {
        return;
    }
    let world = World::new();
    let tmp = shared(&world);
    let _server =
        Server::start(without_runtime_dir(&world, &tmp, &["serve", "a/b/c", "--", "cat"]));
    let sockets = tmp.join("sinew-0/sockets");
    let names = fs::read_dir(&sockets).unwrap().flatten();
    let socket = names.map(|one| one.path()).find(|path| path.extension().is_some()).unwrap();

    let mine = tmp.join("mine");
    as_stranger(&format!("mkdir {}", mine.display()));
    let program = world.path("stranger");
    // By a program of its own: a file that this process has open for writing is open in the children
    // that other tests start meanwhile, and cannot be run as long as it is.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    set_mode(&program, 0o755);
    let name = "strangers::a_socket_swapped_under_a_running_worker_gets_no_request";
    let mut command = Command::new(program);
    command.args(["--exact", name, "--nocapture"]);
    command.env(FORGED, mine.join(socket.file_name().unwrap()));
    command.uid(STRANGER).gid(STRANGER).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut stranger = command.spawn().unwrap();
    let mut said = BufReader::new(stranger.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the stranger could not listen");
    }
    // However it came to that: the path that was announced leads to the stranger.
    fs::rename(&sockets, tmp.join("away")).unwrap();
    fs::rename(&mine, &sockets).unwrap();
    set_mode(&sockets, 0o755);

    let call = without_runtime_dir(&world, &tmp, &["call", "a/b/c"]);
    let output = Running::start(call).finish();
    assert_code(&output, 0);
    drop(stranger.stdin.take());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    stranger.wait().unwrap();
    assert!(rest.contains("got 0 bytes"), "it was asked, and told nothing: {rest}");
}

fn listen_as_stranger(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    set_mode(path, 0o777);
    let mut out = io::stdout();
    writeln!(out, "listening").unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut bytes = Vec::new();
            let _ = stream.unwrap().read_to_end(&mut bytes);
            writeln!(out, "got {} bytes", bytes.len()).unwrap();
        }
    });
    // Until the test has seen enough.
    let _ = io::stdin().read(&mut [0]);
}
