//! `sinew migrate`: a policy is stored, shown and removed, or refused.

use crate::world::{World, assert_code, stderr, stdout};

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
