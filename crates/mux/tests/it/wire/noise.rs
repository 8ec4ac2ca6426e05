//! Any bytes, cut in any way.

use proptest::prelude::*;
use sinew_mux::{ConnectionError, MuxConfig, Role};

use crate::{
    frames::{self, Open, checked, credit, frame, greeting, header, kind, open},
    reading::{config, read, small},
};

fn role(dialler: bool) -> Role {
    if dialler { Role::Dialler } else { Role::Acceptor }
}

/// Frames with every kind of event, as a peer of the acceptor sends them.
fn conversation() -> Vec<Vec<u8>> {
    vec![
        open(1, b"hi"),
        Open { body_len: 6, body: b"ab", ..Open::default() }.frame(3),
        frame(kind::PING, 0, &[7; 8]),
        frame(kind::CHUNK, 3, b"cdef"),
        frame(kind::CREDIT, 1, &credit(0, 5, 2000)),
        frame(0x80, 0, b"skipped"),
        frame(kind::ATTACH, 5, &[&[1; 36][..], &credit(0, 5, 2000), &[0; 8]].concat()),
        frame(kind::ACCEPT, 2, b""),
        frame(kind::HEAD, 2, b"\x01a\0\x01b"),
        frame(kind::ITEM, 2, b"item"),
        frame(kind::CHECKPOINT, 2, b"\0\0\0\0\0\0\0\x01state"),
        frame(kind::ITEM_BEGIN, 2, b"\0\0\0\x05in"),
        frame(kind::CHUNK, 2, b"two"),
        frame(kind::COMPLETE, 2, &2_u64.to_be_bytes()),
        frame(kind::FAILED, 4, &[&[0; 8][..], &frames::error(301, 2, 9, b"why")].concat()),
        frame(kind::CANCELLED, 6, b"\0\0\0\0\0\0\0\0\x04\0\0\0\x05\x01a\0\x01b"),
        frame(kind::REJECT, 8, &frames::error(401, 0, 9, b"full")),
        frame(kind::CANCEL, 1, &[1, 2]),
        frame(kind::DONE, 0, &[0, 0, 0, 2]),
        frame(kind::GRANT, 0, &u64::MAX.to_be_bytes()),
        frame(kind::GOAWAY, 0, &[&[0; 4][..], &frames::error(402, 0, 0, b"leaving")].concat()),
    ]
}

fn spoken(integrity: bool) -> (MuxConfig, Vec<u8>) {
    let frames = conversation().into_iter();
    let frames: Vec<_> = if integrity { frames.map(checked).collect() } else { frames.collect() };
    let config = MuxConfig { integrity, ..config() };
    (config, [greeting(), frames.concat()].concat())
}

#[test]
fn any_split_gives_the_same_events() {
    for integrity in [false, true] {
        let (config, bytes) = spoken(integrity);
        let whole = read(Role::Acceptor, &config, &bytes, bytes.len());
        // The hello, and one for each frame but the begun open and the skipped one.
        assert_eq!((whole.0.len(), &whole.1), (conversation().len() - 1, &None));
        for step in 1..80 {
            assert_eq!(read(Role::Acceptor, &config, &bytes, step), whole, "pieces of {step}");
        }
    }
}

/// Large chunks go straight into their messages, in the middle of whatever else is said.
#[test]
fn any_split_of_large_messages_gives_the_same_events() {
    let part = |byte: u8, len: usize| vec![byte; len];
    let begin = |stream: u32, total: u32, first: &[u8]| {
        frame(kind::ITEM_BEGIN, stream, &[&total.to_be_bytes(), first].concat())
    };
    let frames = [
        Open { body_len: 10_000, ..Open::default() }.frame(1),
        begin(2, 9_000, &part(b'a', 3_000)),
        frame(kind::CHUNK, 1, &part(b'b', 4_000)),
        begin(4, 5_000, &part(b'c', 4_999)),
        frame(kind::CHUNK, 2, &part(b'd', 5_999)),
        frame(kind::CHUNK, 1, &part(b'e', 6_000)),
        frame(kind::PING, 0, &[7; 8]),
        frame(kind::CHUNK, 2, b"f"),
        frame(kind::CHUNK, 4, b"g"),
        frame(kind::COMPLETE, 4, &1_u64.to_be_bytes()),
        begin(2, 8_000, &part(b'h', 7_000)),
        frame(kind::CANCELLED, 2, &[0, 0, 0, 0, 0, 0, 0, 1, 4]),
        // Of nothing that is known, and too long for what is.
        frame(kind::CHUNK, 2, &part(b'i', 3_000)),
        Open { body_len: 3_000, ..Open::default() }.frame(3),
        frame(kind::CHUNK, 3, &part(b'j', 3_001)),
    ];
    let bytes = [greeting(), frames.concat()].concat();
    let whole = read(Role::Acceptor, &config(), &bytes, bytes.len());
    assert_eq!(whole.0.len(), 11);
    assert!(matches!(whole.1, Some(ConnectionError::Violation(rule)) if rule.contains("beyond")));
    for step in [1, 2, 7, 128, 129, 1_000, 2_056, 2_999, 4_096, 10_000] {
        // Said without the events, which are long.
        assert!(read(Role::Acceptor, &config(), &bytes, step) == whole, "pieces of {step}");
    }
}

#[test]
fn bytes_that_are_missing_at_the_end_leave_a_prefix() {
    for integrity in [false, true] {
        let (config, bytes) = spoken(integrity);
        let (whole, _) = read(Role::Acceptor, &config, &bytes, bytes.len());
        let mut before = 0;
        for len in 0..bytes.len() {
            let (events, error) = read(Role::Acceptor, &config, &bytes[..len], len.max(1));
            assert_eq!(error, None, "{len} bytes");
            assert!(whole.starts_with(&events));
            assert!(events.len() == before || events.len() == before + 1, "{len} bytes");
            before = events.len();
        }
    }
}

#[test]
fn a_flipped_bit_is_never_taken_for_something_else() {
    let (config, bytes) = spoken(true);
    let (whole, _) = read(Role::Acceptor, &config, &bytes, bytes.len());
    let behind_hello = greeting().len();
    for at in behind_hello..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let (events, error) = read(Role::Acceptor, &config, &flipped, flipped.len());
            assert!(whole.starts_with(&events), "bit {bit} of byte {at}");
            // A longer length may wait for bytes; everything else is found out.
            match error {
                Some(ConnectionError::Corrupt | ConnectionError::FrameTooLarge { .. }) => {}
                None => assert!(events.len() < whole.len(), "bit {bit} of byte {at}"),
                error => panic!("bit {bit} of byte {at}: {error:?}"),
            }
        }
    }
}

fn kinds() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 0x02..0x15_u8, 1 => any::<u8>()]
}

/// A frame whose parts are likely, and may be wrong.
fn some_frame() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..70);
    let numbers = || prop_oneof![4 => 0..9_u32, 1 => any::<u32>()];
    prop_oneof![
        6 => (kinds(), numbers(), bytes()).prop_map(|(kind, stream, payload)| {
            frame(kind, stream, &payload)
        }),
        3 => (numbers(), numbers(), bytes()).prop_map(|(stream, body_len, body)| {
            Open { body_len, body: &body, ..Open::default() }.frame(stream)
        }),
        3 => (0..5_usize).prop_map(|number| open(1 + 2 * number as u32, b"x")),
        2 => (numbers(), 0..5_000_u32, 0..5_000_usize).prop_map(|(stream, more, len)| {
            let total = more + len as u32;
            frame(kind::ITEM_BEGIN, stream, &[&total.to_be_bytes()[..], &vec![b'x'; len]].concat())
        }),
        2 => (numbers(), 0..5_000_usize).prop_map(|(stream, len)| {
            frame(kind::CHUNK, stream, &vec![b'y'; len])
        }),
        2 => (0..5_usize, 0..9_000_u32).prop_map(|(number, body_len)| {
            Open { body_len, ..Open::default() }.frame(1 + 2 * number as u32)
        }),
        4 => (0..conversation().len()).prop_map(|which| conversation().swap_remove(which)),
        1 => (any::<u32>(), kinds(), numbers()).prop_map(|(len, kind, stream)| {
            header(len & 0xFF_FFFF, kind, stream)
        }),
        1 => bytes(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Bounds on what is buffered are asserted by the reader.
    #[test]
    fn no_bytes_panic_and_every_split_gives_the_same(
        dialler: bool,
        integrity: bool,
        few: bool,
        frames in prop::collection::vec((some_frame(), prop::bool::weighted(0.95)), 0..25),
        step in 1..40_usize,
    ) {
        let config = MuxConfig { integrity, ..if few { small() } else { config() } };
        let frames = frames.into_iter().flat_map(|(frame, right)| {
            if integrity && right { checked(frame) } else { frame }
        });
        let bytes: Vec<u8> = greeting().into_iter().chain(frames).collect();
        let whole = read(role(dialler), &config, &bytes, bytes.len());
        prop_assert_eq!(read(role(dialler), &config, &bytes, step), whole);
    }

    #[test]
    fn no_bytes_from_the_beginning_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        preface: bool,
        step in 1..40_usize,
    ) {
        let start: &[u8] = if preface { &frames::PREFACE } else { b"" };
        let bytes = [start, &bytes].concat();
        let whole = read(Role::Acceptor, &config(), &bytes, bytes.len().max(1));
        prop_assert_eq!(read(Role::Acceptor, &config(), &bytes, step), whole);
    }
}
