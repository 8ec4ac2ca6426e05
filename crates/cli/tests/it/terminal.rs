//! What others write does not reach the terminal as commands to it.

use crate::world::{World, assert_code, stderr, stdout};

/// What a terminal obeys, or shows in another order than it stands: C0, C1 in UTF-8, an override
/// of the direction, an isolate, and a character without width.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{200b}\r";

#[track_caller]
fn assert_harmless(text: &str) {
    let bad = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}')
    };
    assert!(!text.contains(bad), "{text:?}");
}

#[test]
fn the_error_text_of_a_worker_is_escaped() {
    let world = World::new();
    let words = world.file("words", format!("{HOSTILE}\nerror: forged\nhint: run this\n"));
    let script = format!("cat '{}' >&2; exit 3", words.display());
    let _server = world.serve(["a/b/fails", "--", "sh", "-c", &script]);
    let output = world.run(["call", "a/b/fails"]);
    assert_code(&output, 1);
    let said = stderr(&output);
    assert_harmless(&said);
    assert!(said.contains(r"\u{1b}]0;owned"), "shown, but escaped: {said}");
    let forged = |line: &&str| line.starts_with("error: forged") || line.starts_with("hint: run");
    assert_eq!(said.lines().find(forged), None, "{said}");
}

#[test]
fn a_persistent_program_cannot_reach_the_terminal_of_its_worker() {
    let world = World::new();
    let words = world.file("words", format!("{HOSTILE}\n\u{1b}[1mbold\u{1b}[0m\n"));
    let script = format!("cat '{}' >&2; cat >/dev/null", words.display());
    let server = world.serve(["--persistent", "a/b/c", "--", "sh", "-c", &script]);
    let mut said = server.said.clone();
    while !said.iter().any(|line| line.contains("bold")) {
        said.push(server.next_line());
    }
    let said = said.join("\n").replace("\u{1b}[1mbold\u{1b}[0m", "bold in its own colours");
    assert_harmless(&said);
    assert!(said.contains("bold in its own colours") && said.contains("owned"), "{said}");
}

#[test]
fn names_of_files_programs_and_arguments_are_escaped() {
    let world = World::new();
    let file = format!("no{HOSTILE}file");
    for (args, code) in [
        (vec!["call", "a/b/c", "--file", &file], 2),
        (vec!["demo", &file], 2),
        (vec!["serve", "a/b/c", "--", &file], 2),
        (vec!["call", &file], 2),
        (vec![&file], 2),
        (vec!["--discovery", &file, "ls"], 2),
        (vec!["--log", &file, "ls"], 2),
        (vec!["serve", "a/b/c", "--instance", &file, "--", "cat"], 2),
    ] {
        let output = world.run(&args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert_harmless(&stderr(&output));
        assert!(!stderr(&output).is_empty());
    }
}

#[test]
fn what_is_listed_is_escaped() {
    let world = World::new();
    // A record as another process may write it.
    let discovery = world.path("kv");
    let place = format!("file:{}", discovery.display());
    let server = world.serve(["--discovery", &place, "a/b/c", "--", "cat"]);
    let mut files = Vec::new();
    let mut folders = vec![discovery];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let escaped: String = HOSTILE.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    let mut changed = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if text.contains("msgpack") {
            std::fs::write(file, text.replace("msgpack", &format!("msg{escaped}pack"))).unwrap();
            changed += 1;
        }
    }
    assert!(changed > 0, "a record with codecs");
    for args in [&["ls"][..], &["ls", "--json"], &["ls", "a/b/c"]] {
        let output = world.run(["--discovery", &place].iter().chain(args));
        assert_code(&output, 0);
        assert_harmless(&(stdout(&output) + &stderr(&output)));
    }
    drop(server);
}

#[test]
fn payload_is_data_and_stays_as_it_is() {
    let world = World::new();
    let _server = world.serve(["a/b/c", "--", "cat"]);
    assert_eq!(stdout(&world.run(["call", "a/b/c", "--data", HOSTILE])), HOSTILE);
}

#[test]
fn no_message_shows_a_password() {
    let world = World::new();
    for args in [
        &["--discovery", "etcd://bob:hunter2@host:2379", "ls"][..],
        &["--discovery", "etcd:bob:hunter2@host:2379", "ls"],
        &["--discovery", "http://bob:hunter2@host:2379", "ls"],
        &["--discovery", "dns://bob:hunter2@host:1", "ls"],
        &["--discovery", "static:bob:hunter2@127.0.0.1:1", "ls", "a/b/c"],
        &["--discovery", "static:bob:hunter2@127.0.0.1:1", "call", "a/b/c", "--data", "x"],
        &["--discovery", "static:tcp://bob:hunter2@127.0.0.1:1", "call", "a/b/c", "--data", "x"],
        &["--nats", "nats://bob:hunter2@127.0.0.1:1", "call", "a/b/c", "--data", "x"],
        &["--nats", "bob:hunter2@127.0.0.1:1", "--request-plane", "nats", "ls"],
        &["--nats", "nats://hunter2@127.0.0.1:1", "serve", "a/b/c", "--", "cat"],
        &["--discovery", "etcd://bob:hunter2@host:2379", "serve", "a/b/c", "--", "cat"],
    ] {
        let mut command = world.sinew(["--log", "debug"]);
        command.args(args);
        let output = crate::world::Running::start(command).finish();
        assert_ne!(output.status.code(), Some(0), "{args:?}");
        let said = stdout(&output) + &stderr(&output);
        assert!(!said.contains("hunter2") && !said.is_empty(), "{args:?}: {said}");
    }
    for (name, value) in [
        ("SINEW_DISCOVERY", "etcd://bob:hunter2@host:2379"),
        ("SINEW_DISCOVERY", "redis://bob:hunter2@host:2379"),
        ("SINEW_DISCOVERY", "static:bob:hunter2@host:1"),
        ("SINEW_NATS_SERVER", "nats://bob:hunter2@host:4222"),
        ("ETCD_ENDPOINTS", "http://bob:hunter2@host:2379"),
    ] {
        let mut command = world.sinew(["ls"]);
        command.env(name, value).env("DYN_DISCOVERY_BACKEND", "etcd");
        let output = crate::world::Running::start(command).finish();
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {}", stderr(&output));
        let said = stdout(&output) + &stderr(&output);
        assert!(!said.contains("hunter2") && !said.is_empty(), "{name}={value}: {said}");
    }
}
