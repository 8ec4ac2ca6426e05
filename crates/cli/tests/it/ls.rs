//! What `sinew ls` shows.

use std::io::BufRead;

use rustix::process::Signal;
use serde_json::Value;

use crate::world::{Running, World, assert_code, stderr, stdout};

#[test]
fn instances_are_listed_for_people_and_for_programs() {
    let world = World::new();
    let empty = world.run(["ls"]);
    assert_code(&empty, 0);
    assert_eq!(stdout(&empty), "");
    assert!(stderr(&empty).contains("sinew serve NAME"), "{}", stderr(&empty));
    assert_eq!(stdout(&world.run(["ls", "--json"])), "[]\n");

    let args = ["text/words/split", "--instance", "2a", "--weight", "7", "--", "cat"];
    let _one = world.serve(args);
    let _two = world.serve(["other/b/c", "--persistent", "--", "cat"]);
    let table = stdout(&world.run(["ls"]));
    assert!(table.starts_with("ENDPOINT"), "{table}");
    let line = table.lines().find(|line| line.starts_with("text/words/split")).unwrap();
    assert!(line.contains("2a") && line.contains("unix://") && line.ends_with('7'), "{table}");
    assert!(table.contains("tcp://127.0.0.1:") && table.contains("json,raw"), "{table}");

    let list: Vec<Value> = serde_json::from_str(&stdout(&world.run(["ls", "--json"]))).unwrap();
    assert_eq!(list.len(), 2);
    let named = stdout(&world.run(["ls", "text/words/split", "--json"]));
    let list: Vec<Value> = serde_json::from_str(&named).unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0]["endpoint"], "text/words/split");
    assert_eq!((&list[0]["instance"], &list[0]["weight"]), (&"2a".into(), &7.into()));
}

#[test]
fn changes_are_followed() {
    let world = World::new();
    let (watch, mut lines) = Running::start_reading(world.sinew(["ls", "--watch"]));
    let (json, mut objects) = Running::start_reading(world.sinew(["ls", "--watch", "--json"]));
    let mut next = || {
        let (mut line, mut object) = (String::new(), String::new());
        lines.read_line(&mut line).unwrap();
        objects.read_line(&mut object).unwrap();
        (line, serde_json::from_str::<Value>(&object).unwrap()["change"].clone())
    };
    let mut server = world.serve(["a/b/c", "--instance", "5", "--", "cat"]);
    let (line, change) = next();
    assert!(line.starts_with("+ a/b/c 5 ") && line.contains(" tcp://"), "{line}");
    assert_eq!(change, "added");
    server.signal(Signal::TERM);
    assert_eq!(server.code(), Some(0));
    let (line, change) = next();
    assert!(line.starts_with("- a/b/c 5 "), "{line}");
    assert_eq!(change, "removed");
    for process in [watch, json] {
        process.signal(Signal::INT);
        assert_code(&process.finish(), 0);
    }
}

#[test]
fn a_folder_that_is_refused_is_reported_once() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let shared = world.path("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
    let place = format!("file:{}", shared.display());
    for args in [&["ls"][..], &["call", "a/b/c", "--data", "x"]] {
        let output = world.run([args, &["--discovery", &place]].concat());
        assert_code(&output, 8);
        let said = stderr(&output);
        assert_eq!(said.matches("is not used").count(), 1, "{said}");
        assert!(said.starts_with("error: "), "{said}");
        assert!(said.contains("choose another folder"), "{said}");
        assert!(!said.contains("that you can write to"), "it only reads: {said}");
    }
}
