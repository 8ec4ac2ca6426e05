//! One process for all requests.

use std::{io::BufRead, path::PathBuf};

use rustix::process::Signal;

use crate::world::{Running, Server, World, assert_code, content_of, stderr, stdout, until};

/// A process that speaks the protocol, and breaks it when asked to. `$1` takes notes.
const PEER: &str = r#"
while IFS= read -r line; do
  id=${line#*'"id":'}; id=${id%%[,\}]*}
  case "$line" in
    *'"cancel":true'*) echo "cancelled $id" >> "$1" ;;
    *hang*) printf '{"id":%s,"item":"begun"}\n' "$id" ;;
    *fail*) printf '{"id":%s,"error":"as asked"}\n' "$id" ;;
    *garble*) echo "hello there" ;;
    *stray*) printf '{"id":999,"item":1}\n{"id":%s,"item":"mine","end":true}\n' "$id" ;;
    *die*) echo "my last words" >&2; exit 9 ;;
    *flood*) yes "{\"id\":$id,\"item\":\"0123456789012345678901234567890123456789\"}" | head -n 60000
             printf '{"id":%s,"end":true}\n' "$id" ;;
    *) printf '{"id":%s,"item":"one"}\n{"id":%s,"item":{"n":2}}\n' "$id" "$id"
       printf '{"id":%s,"end":true}\n' "$id" ;;
  esac
done
echo "end of input" >> "$1"
"#;

fn serve(world: &World) -> (Server, PathBuf) {
    let notes = world.path("notes");
    let script = world.file("peer.sh", PEER);
    let args = ["a/b/peer", "--persistent", "--kill-grace", "5s", "--", "sh"];
    let args = args.into_iter().map(PathBuf::from).chain([script, notes.clone()]);
    (world.serve(args), notes)
}

fn call(world: &World, data: &str) -> std::process::Output {
    world.run(["call", "a/b/peer", "--data", data])
}

#[test]
fn requests_share_the_process_and_it_ends_with_its_input() {
    let world = World::new();
    let (mut server, notes) = serve(&world);
    let start =
        |_| Running::start(world.sinew(["call", "a/b/peer", "--data", "x", "--wait", "15s"]));
    let calls: Vec<_> = (0..20).map(start).collect();
    for call in calls {
        let output = call.finish();
        assert_code(&output, 0);
        assert_eq!(stdout(&output), "one\n{\"n\":2}\n");
    }
    let output = world.run(["call", "a/b/peer", "--data", "{\"a\":1}", "--json"]);
    assert_eq!(stdout(&output), "\"one\"\n{\"n\":2}\n");
    server.signal(Signal::TERM);
    assert_eq!(server.code(), Some(0));
    assert_eq!(content_of(&notes), "end of input\n");
}

#[test]
fn errors_and_strangers_lines_concern_only_their_own_request() {
    let world = World::new();
    let (_server, _) = serve(&world);
    let output = call(&world, "fail");
    assert_code(&output, 1);
    assert_eq!(stderr(&output), "error: as asked\n");
    let output = call(&world, "stray");
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "mine\n");
}

#[test]
fn a_cancel_reaches_the_process() {
    let world = World::new();
    let (_server, notes) = serve(&world);
    let (hanging, mut lines) =
        Running::start_reading(world.sinew(["call", "a/b/peer", "--data", "hang"]));
    lines.read_line(&mut String::new()).unwrap();
    hanging.signal(Signal::INT);
    assert_code(&hanging.finish(), 130);
    assert_eq!(content_of(&notes), "cancelled 1\n");
}

#[test]
fn its_death_fails_what_has_begun_and_it_is_started_again() {
    for (word, why) in [
        ("die", "sh exited with code 9: my last words"),
        ("garble", "wrote a line that is not of the protocol"),
    ] {
        let world = World::new();
        let (_server, _) = serve(&world);
        let (hanging, mut lines) =
            Running::start_reading(world.sinew(["call", "a/b/peer", "--data", "hang"]));
        lines.read_line(&mut String::new()).unwrap();
        let killer = call(&world, word);
        for output in [killer, hanging.finish()] {
            assert_code(&output, 1);
            assert!(stderr(&output).contains(why), "{}", stderr(&output));
        }
        until("the process to serve again", || call(&world, "x").status.success());
    }
}

#[test]
fn the_body_is_in_one_field_whatever_the_caller_sent() {
    let world = World::new();
    // Gives back what it read, as a string.
    let script = r#"while IFS= read -r line; do
        id=${line#*'"id":'}; id=${id%%[,\}]*}
        text=$(printf '%s' "$line" | sed 's/[\\"]/\\&/g')
        printf '{"id":%s,"item":"%s","end":true}\n' "$id" "$text"
    done"#;
    let _server = world.serve(["a/b/c", "--persistent", "--", "sh", "-c", script]);
    let sent = |args: &[&str]| {
        let output = world.run(["call", "a/b/c"].iter().chain(args));
        assert_code(&output, 0);
        let line = stdout(&output);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        // With --json the item is a string of JSON.
        let line = match line {
            serde_json::Value::String(text) => serde_json::from_str(&text).unwrap(),
            line => line,
        };
        let fields: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, ["body", "id"], "{line}");
        line["body"].clone()
    };
    assert_eq!(sent(&["--data", "a \"b\""]), "a \"b\"");
    assert_eq!(sent(&["--data", "{\"n\":1}", "--json"]), serde_json::json!({"n": 1}));
    assert_eq!(sent(&["--data", "\"text\"", "--json"]), "text");
}

#[test]
fn a_banner_is_shown_in_the_log_of_the_worker() {
    let world = World::new();
    let script = "echo 'Welcome to the program v1.2'; exec cat";
    let server = world.serve(["a/b/c", "--persistent", "--", "sh", "-c", script]);
    let mut said = server.said.clone();
    // The line that says what is served has the script, and so the banner's text, in it as well.
    let is_about_it = |line: &String| line.contains("belongs on standard error");
    while !said.iter().any(is_about_it) {
        said.push(server.next_line());
    }
    let text = said.join("\n");
    assert!(text.matches("Welcome to the program v1.2").count() >= 2, "{text}");
}

#[test]
fn a_caller_that_does_not_read_is_failed_and_others_are_served() {
    let world = World::new();
    let (_server, notes) = serve(&world);
    let (slow, mut lines) =
        Running::start_reading(world.sinew(["call", "a/b/peer", "--data", "flood"]));
    lines.read_line(&mut String::new()).unwrap();
    // The process is through with the flood only when all of it was read.
    assert_code(&call(&world, "x"), 0);
    assert_eq!(content_of(&notes), "cancelled 1\n");
    let rest = lines.lines().count();
    let output = slow.finish();
    assert_code(&output, 1);
    assert!(rest < 59_999, "{rest}");
    assert!(stderr(&output).contains("ahead of its caller"), "{}", stderr(&output));
}
