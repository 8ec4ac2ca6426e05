//! What an `Outbound` says before the hellos, and what waits in it.

use sinew_mux::{ConnectionError, Event, Hello, MuxConfig, Outbound, Role};
use sinew_plane::{Code, Error};

use crate::{
    frames::{self, kind},
    reading::{Reader, config},
};

fn outbound(role: Role, config: MuxConfig) -> Outbound {
    Outbound::new(role, &config.checked().unwrap())
}

/// A peer's hello that asks for nothing.
fn hello() -> Hello {
    let events = Reader::new(Role::Acceptor, config()).events(&frames::greeting()).unwrap();
    let [Event::Hello(hello)] = events[..] else { panic!("{events:?}") };
    hello
}

fn written(outbound: &mut Outbound) -> Vec<u8> {
    outbound.take_batch().parts().flatten().copied().collect()
}

/// The kinds of the frames that were written, behind the preface if there is one.
fn kinds(mut bytes: &[u8], check: usize) -> Vec<u8> {
    bytes = bytes.strip_prefix(&frames::PREFACE).unwrap_or(bytes);
    let mut kinds = Vec::new();
    while let [a, b, c, kind, ..] = *bytes {
        kinds.push(kind);
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let check = if kind == kind::HELLO { 0 } else { check };
        bytes = &bytes[8 + len + check..];
    }
    kinds
}

#[test]
fn nothing_but_the_greeting_is_said_before_the_hellos() {
    for integrity in [false, true] {
        let config = MuxConfig { integrity, ..config() };
        let check = if integrity { 4 } else { 0 };
        let goodbye = Error::new(Code::Draining, "leaving");

        let mut acceptor = outbound(Role::Acceptor, config.clone());
        acceptor.ping(1);
        acceptor.go_away(0, &goodbye);
        assert!(!acceptor.has_output());
        acceptor.on_hello(hello());
        let bytes = written(&mut acceptor);
        assert_eq!(kinds(&bytes, check), [kind::HELLO, kind::GOAWAY]);
        let events = Reader::new(Role::Dialler, config.clone()).events(&bytes).unwrap();
        assert!(matches!(&events[..], [Event::Hello(_), Event::GoAway { last_stream: 0, .. }]));

        let mut dialler = outbound(Role::Dialler, config);
        dialler.ping(1);
        dialler.go_away(0, &goodbye);
        dialler.go_away(4, &goodbye);
        assert_eq!(kinds(&written(&mut dialler), check), [kind::HELLO]);
        dialler.on_hello(hello());
        dialler.ping(2);
        assert_eq!(kinds(&written(&mut dialler), check), [kind::GOAWAY, kind::PING]);
        assert!(!dialler.has_output(), "the goodbye is said once");
    }
}

#[test]
fn the_last_word_is_for_those_who_can_read_it() {
    let violation = ConnectionError::Violation("test");
    let said = |role: Role, error: &ConnectionError| {
        let mut outbound = outbound(role, config());
        outbound.go_away(0, &Error::new(Code::Draining, "leaving"));
        written(&mut outbound);
        outbound.close(error);
        kinds(&written(&mut outbound), 0)
    };
    assert_eq!(said(Role::Acceptor, &violation), [kind::HELLO, kind::GOAWAY]);
    let version = ConnectionError::Version { peer: (2, 3) };
    assert_eq!(said(Role::Acceptor, &version), [kind::HELLO, kind::GOAWAY]);
    for role in [Role::Acceptor, Role::Dialler] {
        assert_eq!(said(role, &ConnectionError::NotSinew), []);
        assert_eq!(said(role, &ConnectionError::Silent), []);
    }
    // Without the acceptor's hello it is not known whether it expects checks.
    assert_eq!(said(Role::Dialler, &violation), []);

    let mut dialler = outbound(Role::Dialler, config());
    dialler.on_hello(hello());
    written(&mut dialler);
    dialler.close(&violation);
    assert!(dialler.is_retired());
    assert_eq!(kinds(&written(&mut dialler), 0), [kind::GOAWAY]);
}

#[test]
fn answers_that_nobody_reads_are_counted() {
    let mut acceptor = outbound(Role::Acceptor, config());
    assert_eq!(acceptor.answer_bytes(), 0);
    acceptor.on_hello(hello());
    let greeting = acceptor.answer_bytes();
    for token in 0..10 {
        acceptor.pong(token);
    }
    assert_eq!(acceptor.answer_bytes(), greeting + 10 * 16);
    assert_eq!(acceptor.outbox().answer_bytes(), acceptor.answer_bytes());
    written(&mut acceptor);
    assert_eq!(acceptor.answer_bytes(), 0);
}
