//! What the bytes of a peer may and may not do.

mod floods;
mod greeting;
mod noise;
mod requests;
mod responses;

use sinew_mux::{ConnectionError, MuxConfig, Role};

use crate::{frames, reading::read};

/// Reads frames behind a greeting, in one piece: the events behind the hello, and the error.
fn behind_hello(
    role: Role,
    config: &MuxConfig,
    frames: &[Vec<u8>],
) -> (Vec<String>, Option<ConnectionError>) {
    let bytes = [frames::greeting(), frames.concat()].concat();
    let (mut events, error) = read(role, config, &bytes, bytes.len());
    events.remove(0);
    (events, error)
}

/// The rule that is broken by these frames behind a greeting.
fn broken_rule(role: Role, config: &MuxConfig, frames: &[Vec<u8>]) -> &'static str {
    match behind_hello(role, config, frames) {
        (_, Some(ConnectionError::Violation(rule))) => rule,
        other => panic!("no violation: {other:?}"),
    }
}
