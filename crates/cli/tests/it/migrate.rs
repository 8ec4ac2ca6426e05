//! `sinew migrate`: a policy is stored, shown, followed by callers and removed, or refused.

use std::{
    io::{BufRead as _, BufReader},
    process::ChildStderr,
};

use crate::world::{Running, World, assert_code, stderr, stdout};

#[test]
fn a_dry_run_shows_what_would_change_and_writes_nothing() {
    let world = World::new();
    let _server = world.serve(["a/b/c", "--instance", "2a", "--", "cat"]);
    let dry = world.run(["migrate", "a/b/c", "--to", "tcp", "--percent", "5", "--dry-run"]);
    assert_code(&dry, 0);
    let expected = "a/b/c 2a: unix -> tcp for 5 % of the streams\n\
                    a/b/c: dry run, no policy was written\n";
    assert_eq!(stdout(&dry), expected);
    let same = world.run(["migrate", "a/b/c", "--to", "unix", "--dry-run"]);
    assert!(stdout(&same).starts_with("a/b/c 2a: unix -> stays\n"), "{}", stdout(&same));
    let end = world.run(["migrate", "a/b/c", "--end"]);
    assert_code(&end, 0);
    assert_eq!(stdout(&end), "a/b/c: there is no policy\n");
}

#[test]
fn a_policy_is_stored_with_its_author_and_removed() {
    let world = World::new();
    let _server = world.serve(["a/b/c", "--", "cat"]);
    let options = ["--to", "tcp", "--expires", "10m", "--author", "ann"];
    let stored = world.run(["migrate", "a/b/c"].iter().chain(&options));
    assert_code(&stored, 0);
    let said = stdout(&stored);
    assert!(said.starts_with("a/b/c: 100 % of the streams to tcp for 600 s, policy version "));
    assert!(said.contains(" by ann\n"), "{said}");
    assert_eq!(stdout(&world.run(["call", "a/b/c", "--data", "x"])), "x");
    let end = world.run(["migrate", "a/b/c", "--end"]);
    assert_eq!(stdout(&end), "a/b/c: the policy is removed\n");
}

#[test]
fn what_cannot_be_says_why() {
    let world = World::new();
    let nobody = world.run(["migrate", "a/b/c", "--to", "tcp"]);
    assert_code(&nobody, 4);
    assert!(stderr(&nobody).contains("no instance serves a/b/c"), "{}", stderr(&nobody));
    let server = world.serve(["a/b/c", "--instance", "2a", "--", "cat"]);
    let unknown = world.run(["migrate", "a/b/c", "--to", "pigeon"]);
    assert_code(&unknown, 2);
    let said = stderr(&unknown);
    assert!(said.contains("an address for pigeon") && said.contains("2a has unix, tcp"), "{said}");
    let address = server.said.iter().find_map(|line| line.split("tcp://").nth(1)).unwrap();
    let address: String =
        address.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
    let fixed = format!("static:{}", address.trim_end_matches(':'));
    let refused = world.run(["--discovery", &fixed, "migrate", "a/b/c", "--to", "tcp"]);
    assert_code(&refused, 8);
    assert!(stderr(&refused).contains("holds no policies"), "{}", stderr(&refused));
    let refused = world.run(["--discovery", &fixed, "migrate", "a/b/c", "--end"]);
    assert_code(&refused, 8);
}

/// Reads what a caller says until a line has all these parts.
fn hears(caller: &mut BufReader<ChildStderr>, parts: &[&str]) {
    let mut said = String::new();
    loop {
        let before = said.len();
        assert!(caller.read_line(&mut said).unwrap() > 0, "no line has {parts:?}: {said}");
        if parts.iter().all(|part| said[before..].contains(part)) {
            return;
        }
    }
}

#[test]
fn streams_of_several_callers_move_to_and_fro_and_each_item_comes_once() {
    const CALLERS: usize = 3;
    let world = World::new();
    let script = format!(
        "i=0; while [ ! -e {} ]; do echo $i; i=$((i+1)); sleep 0.01; done; echo end",
        world.path("go").display()
    );
    let _server = world.serve(["a/b/c", "--", "sh", "-c", &script]);
    // The limit ends the wait of a test for a line that does not come.
    let args = ["call", "a/b/c", "--trace", "--explain", "--timeout", "60s"];
    let mut callers: Vec<_> =
        (0..CALLERS).map(|_| Running::start_listening(world.sinew(args))).collect();
    for (_, said) in &mut callers {
        hears(said, &["connected to unix://"]);
    }
    // A busy machine is no reason to go back.
    let margins = ["--max-gap-percent", "10000", "--max-error-points", "100"];
    for to in ["tcp", "unix"] {
        let stored = world.run(["migrate", "a/b/c", "--to", to].iter().chain(&margins));
        assert_code(&stored, 0);
        for (_, said) in &mut callers {
            hears(said, &["attached 1 streams", &format!("over {to}://"), "(moved)"]);
        }
    }
    world.file("go", "");
    for (call, mut said) in callers {
        hears(&mut said, &["moved from unix to tcp", "policy version"]);
        hears(&mut said, &["moved from tcp to unix", "policy version"]);
        // The pipe stays open until the caller has ended.
        std::io::copy(&mut said, &mut std::io::sink()).unwrap();
        let called = call.finish();
        assert_eq!(called.status.code(), Some(0));
        let text = stdout(&called);
        let (items, end) = text.trim_end().rsplit_once('\n').unwrap();
        assert_eq!(end, "end");
        let count = items.lines().zip(0..).inspect(|(item, n)| assert_eq!(**item, n.to_string()));
        assert!(count.count() > 10, "it ran while it was moved");
    }
    let end = world.run(["migrate", "a/b/c", "--end"]);
    assert_eq!(stdout(&end), "a/b/c: the policy is removed\n");
}
