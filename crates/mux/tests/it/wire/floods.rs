//! Frames that cost their sender nothing and have no effect.

use std::time::Duration;

use sinew_mux::{ConnectionError, Role};

use crate::{
    frames::{self, frame, greeting, kind, open},
    reading::{Reader, small},
};

/// Frames without effect that a peer may send at once, and per second after that.
const USELESS: (usize, usize) = (2_000, 200);
const CANCELS: (usize, usize) = (32_768, 10_000);

fn reader() -> Reader {
    let mut reader = Reader::new(Role::Acceptor, small());
    reader.events(&[greeting(), open(1, b"")].concat()).unwrap();
    reader
}

/// How many of these frames are taken before it is too much.
fn taken(reader: &mut Reader, frame: &[u8]) -> usize {
    for taken in 0..100_000 {
        match reader.events(frame) {
            Ok(_) => {}
            Err(ConnectionError::Abuse(_)) => return taken,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("a flood is never too much");
}

fn grant(total: u64) -> Vec<u8> {
    frame(kind::GRANT, 0, &total.to_be_bytes())
}

fn goaway() -> Vec<u8> {
    frame(kind::GOAWAY, 0, &[&[0; 4][..], &frames::error(402, 0, 0, b"")].concat())
}

#[test]
fn floods_of_frames_without_effect_are_abuse() {
    let frames = [
        frame(kind::PING, 0, &[0; 8]),
        frame(kind::PONG, 0, &[0; 8]),
        frame(kind::DONE, 0, &[0, 0, 0, 1]),
        frame(0x80, 0, b""),
        frame(0xFF, 9, b"of a later version"),
        // A chunk behind a whole body, and a grant that grants nothing.
        frame(kind::CHUNK, 1, b"a"),
        grant(65_536),
        grant(0),
        goaway(),
    ];
    for frame in frames {
        let mut reader = reader();
        assert_eq!(taken(&mut reader, &frame), USELESS.0, "{frame:?}");
        reader.now += Duration::from_secs(1);
        assert_eq!(taken(&mut reader, &frame), USELESS.1, "{frame:?}");
    }
}

#[test]
fn all_frames_without_effect_count_together() {
    let mut reader = reader();
    let mixed = [frame(kind::PING, 0, &[0; 8]), frame(0x80, 0, b""), grant(1), goaway()];
    assert_eq!(taken(&mut reader, &mixed.concat()), USELESS.0 / 4);
}

#[test]
fn what_a_driver_finds_useless_counts_too() {
    let mut reader = reader();
    for _ in 0..USELESS.0 {
        reader.inbound.on_ineffective_frame(reader.now).unwrap();
    }
    assert!(matches!(
        reader.inbound.on_ineffective_frame(reader.now),
        Err(ConnectionError::Abuse(_))
    ));
}

#[test]
fn floods_of_cancels_are_abuse() {
    let mut reader = reader();
    let cancel = frame(kind::CANCEL, 1, &[1, 1]);
    assert_eq!(taken(&mut reader, &cancel), CANCELS.0);
    reader.now += Duration::from_secs(1);
    assert_eq!(taken(&mut reader, &cancel), CANCELS.1);
}

#[test]
fn what_has_an_effect_is_not_counted() {
    let mut reader = reader();
    for total in 1..=USELESS.0 as u64 * 2 {
        assert_eq!(reader.events(&grant(65_536 + total)).unwrap().len(), 1);
    }
    // A grant that does not raise the total has no event.
    assert!(reader.events(&grant(65_536)).unwrap().is_empty());
}

#[test]
fn an_unknown_kind_that_matters_is_a_violation() {
    for kind in [0x00, 0x15, 0x7F] {
        let error = reader().events(&frame(kind, 0, b"")).unwrap_err();
        assert!(matches!(error, ConnectionError::Violation(_)), "kind {kind}");
    }
}
