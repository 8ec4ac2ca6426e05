//! Preface, hello and the limits of frames.

use sinew_mux::{ConnectionError, Event, MuxConfig, PREFACE, Role};
use sinew_plane::ProcessId;

use super::{behind_hello, broken_rule};
use crate::{
    frames::{self, MAX_PAYLOAD, frame, header, hello_entry, kind},
    reading::{Reader, config, read},
};

/// Everything one reader makes of the bytes.
fn outcome(bytes: &[u8]) -> (usize, Option<ConnectionError>) {
    let (events, error) = read(Role::Acceptor, &config(), bytes, bytes.len().max(1));
    (events.len(), error)
}

fn with_hello(payload: &[u8]) -> Vec<u8> {
    [&PREFACE[..], &frame(kind::HELLO, 0, payload)].concat()
}

#[test]
fn other_protocols_are_known_by_the_first_byte_that_differs() {
    assert_eq!(PREFACE, frames::PREFACE);
    let others: [&[u8]; 7] = [
        b"G",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01",
        b"\0\x10a/b/c",
        b"SSH-2.0-x\r\n",
        b"\xFFSNEX",
        b"\xFFSNEW\xFF\r\r",
    ];
    for other in others {
        assert_eq!(outcome(other), (0, Some(ConnectionError::NotSinew)), "{other:?}");
    }
    for cut in 0..PREFACE.len() {
        assert_eq!(outcome(&PREFACE[..cut]), (0, None));
        let mut wrong = PREFACE[..=cut].to_vec();
        wrong[cut] ^= 0x20;
        assert_eq!(outcome(&wrong), (0, Some(ConnectionError::NotSinew)));
    }
}

#[test]
fn a_hello_comes_first_and_once() {
    for kind in [kind::OPEN, kind::PING, kind::GOAWAY, kind::HEAD, 0x80, 0x14, 0x15] {
        let bytes = [&PREFACE[..], &frame(kind, 0, &[0; 60])].concat();
        let (events, error) = outcome(&bytes);
        assert_eq!(events, 0);
        assert!(matches!(error, Some(ConnectionError::Violation(_))), "kind {kind}");
    }
    let second = frame(kind::HELLO, 0, &[1, 1]);
    assert!(broken_rule(Role::Acceptor, &config(), &[second]).contains("hello"));
}

#[test]
fn versions_must_overlap() {
    for versions in [[1, 1], [0, 1], [1, 3], [0, 255]] {
        assert_eq!(outcome(&with_hello(&versions)), (1, None), "{versions:?}");
    }
    for (low, high) in [(2, 3), (0, 0), (255, 255), (2, 1)] {
        let error = ConnectionError::Version { peer: (low, high) };
        assert_eq!(outcome(&with_hello(&[low, high])), (0, Some(error)));
    }
}

#[test]
fn what_a_hello_leaves_out_is_the_least_and_what_is_unknown_is_skipped() {
    let payload = [
        vec![1, 1],
        hello_entry(999, b"of a later version"),
        hello_entry(2, &9_u32.to_be_bytes()),
        hello_entry(2, &7_u32.to_be_bytes()),
        hello_entry(5, &[0, 9]),
    ];
    let mut reader = Reader::new(Role::Acceptor, config());
    let events = reader.events(&with_hello(&payload.concat())).unwrap();
    let [Event::Hello(hello)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((hello.max_streams, hello.integrity), (7, false), "the last one counts");
    assert_eq!((hello.process, hello.capabilities), (ProcessId::UNKNOWN, 0));
    assert_eq!((hello.max_message_bytes, hello.request_window_bytes), (65_536, 65_536));
}

#[test]
fn hellos_that_cannot_be_read_are_violations() {
    let long = hello_entry(1, &[0; 8]);
    let broken = [
        vec![],
        vec![1],
        vec![1, 1, 0],
        [&[1, 1], &long[..long.len() - 1]].concat(),
        [vec![1, 1], hello_entry(1, &[0; 7])].concat(),
        [vec![1, 1], hello_entry(2, &[0; 5])].concat(),
        [vec![1, 1], hello_entry(5, &[])].concat(),
        [vec![1, 1], hello_entry(6, &[0; 4])].concat(),
    ];
    for payload in broken {
        let (events, error) = outcome(&with_hello(&payload));
        assert_eq!(events, 0);
        assert!(matches!(error, Some(ConnectionError::Violation(_))), "{payload:?}");
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_from_its_header() {
    let hello = |len: usize| {
        let entry = hello_entry(999, &vec![0; len - 6]);
        with_hello(&[vec![1, 1], entry].concat())
    };
    assert_eq!(outcome(&hello(4096)), (1, None));
    let too_large = |bytes| (0, Some(ConnectionError::FrameTooLarge { bytes }));
    assert_eq!(outcome(&hello(4097)), too_large(4097));
    let claimed = [&PREFACE[..], &header(4097, kind::HELLO, 0)].concat();
    assert_eq!(outcome(&claimed), too_large(4097));

    let skipped = frame(0x80, 3, &vec![0; MAX_PAYLOAD]);
    assert_eq!(behind_hello(Role::Acceptor, &config(), &[skipped]), (vec![], None));
    for len in [MAX_PAYLOAD as u32 + 1, 0xFF_FFFF] {
        let claimed = header(len, kind::OPEN, 1);
        let (events, error) = behind_hello(Role::Acceptor, &config(), &[claimed]);
        assert!(events.is_empty());
        assert_eq!(error, Some(ConnectionError::FrameTooLarge { bytes: len as usize }));
    }
}

#[test]
fn the_frames_before_one_over_the_limit_are_looked_at_first() {
    let ping = frame(kind::PING, 0, &[0; 8]);
    let claimed = header(0xFF_FFFF, kind::OPEN, 1);
    let (events, error) = behind_hello(Role::Acceptor, &config(), &[ping, claimed.clone()]);
    assert_eq!(events, ["Ping { token: 0 }"]);
    assert!(matches!(error, Some(ConnectionError::FrameTooLarge { .. })));
    let (_, error) = behind_hello(Role::Acceptor, &config(), &[frame(0x15, 0, b""), claimed]);
    assert!(matches!(error, Some(ConnectionError::Violation(_))));
}

#[test]
fn either_side_may_ask_for_checks() {
    let ping = frame(kind::PING, 0, &[0; 8]);
    let checked = frames::checked(ping.clone());
    let asks = MuxConfig { integrity: true, ..config() };
    let asked = with_hello(&[vec![1, 1], hello_entry(5, &[2])].concat());
    for (config, greeting) in [(asks, frames::greeting()), (config(), asked)] {
        let bytes = [&greeting[..], &checked].concat();
        let (events, error) = read(Role::Acceptor, &config, &bytes, bytes.len());
        assert_eq!((events.len(), error), (2, None));
        let bytes = [&greeting[..], &ping, &[0; 4]].concat();
        let (events, error) = read(Role::Acceptor, &config, &bytes, bytes.len());
        assert_eq!((events.len(), error), (1, Some(ConnectionError::Corrupt)));
    }
}
