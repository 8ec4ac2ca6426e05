//! `sinew serve --frame-checks` and `--park-limit`, met by a caller that is driven by hand.

use bytes::Bytes;
use sinew_plane::{Code, Terminal};

use crate::{
    raw_mux::{RawMux, address},
    world::{Running, World, assert_code, stderr, stdout},
};

const NAME: &str = "test/frames/echo";

/// A worker with these options, and whether it asks for checks.
fn asks_for_checks(options: &[&str], variable: Option<&str>) -> bool {
    let world = World::new();
    let mut command = world.sinew(["serve"]);
    command.args(options).args([NAME, "--", "cat"]);
    command.envs(variable.map(|word| ("SINEW_FRAME_CHECKS", word)));
    let server = crate::world::Server::start(command);
    let mut at = address(&server);
    at.set_ip([127, 0, 0, 1].into());
    RawMux::greet(at).unwrap().integrity
}

/// C08: on beyond loopback without TLS, and off on loopback, unless a word says otherwise.
#[test]
fn frames_are_checked_beyond_loopback_and_by_option() {
    let everywhere = ["--listen", "0.0.0.0:0", "--advertise", "127.0.0.1", "--insecure"];
    assert!(!asks_for_checks(&[], None));
    assert!(asks_for_checks(&everywhere, None));
    assert!(!asks_for_checks(&[&everywhere[..], &["--frame-checks", "off"]].concat(), None));
    assert!(asks_for_checks(&["--frame-checks", "write"], None));
    assert!(asks_for_checks(&[], Some("verify")));
    // The option comes before the variable.
    assert!(!asks_for_checks(&["--frame-checks", "off"], Some("verify")));
}

#[test]
fn a_damaged_frame_is_found_by_a_worker_that_verifies() {
    for (word, found) in [("off", false), ("write", false), ("verify", true)] {
        let world = World::new();
        let server = world.serve(["--frame-checks", word, NAME, "--", "cat"]);
        let mut peer = RawMux::greet(address(&server)).unwrap();
        peer.open_damaged(NAME, "whole");
        match peer.next_response() {
            None => assert!(found, "{word}: the connection has ended"),
            Some((items, end)) => {
                assert!(!found, "{word}: {end:?}");
                assert!(matches!(end, Terminal::Complete { .. }), "{word}: {end:?}");
                // A byte of `whole` with its lowest bit changed.
                assert!(items.concat().starts_with(b"vhole"), "{word}: {items:?}");
            }
        }
        // Its other callers are served, whatever either side asks for.
        for ours in ["off", "write", "verify"] {
            let mut call = world.sinew(["call", NAME, "--data", "whole"]);
            call.env("SINEW_FRAME_CHECKS", ours);
            let output = Running::start(call).finish();
            assert_code(&output, 0);
            assert_eq!(stdout(&output).trim_end(), "whole", "{word}, {ours}");
        }
    }
}

#[test]
fn a_word_that_is_none_of_the_three_is_refused() {
    let output = World::new().run(["serve", "--frame-checks", "on", NAME, "--", "cat"]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("off, write or verify"), "{}", stderr(&output));
}

#[test]
fn a_line_waits_for_its_reader_no_longer_than_the_park_limit() {
    let world = World::new();
    // More lines than the caller gives credit for.
    let server = world.serve([NAME, "--park-limit", "100ms", "--", "seq", "1", "20000"]);
    let mut peer = RawMux::greet(address(&server)).unwrap();
    peer.open(NAME, &Bytes::new(), 0).unwrap();
    let (items, end) = peer.next_response().unwrap();
    let Terminal::Failed { error } = end else { panic!("{end:?}") };
    assert_eq!(error.code(), Code::Exhausted, "{error}");
    assert_eq!(items.len(), 16_384);
}
