//! Opens, attaches, bodies and what a consumer may say.

use sinew_mux::{ConnectionError, Event, Role};

use super::{behind_hello, broken_rule};
use crate::{
    frames::{self, Open, credit, frame, greeting, kind, open},
    reading::{Reader, config, read, small},
};

fn attach(stream: u32) -> Vec<u8> {
    let (secret, counter, next) = (5_u64.to_be_bytes(), 1_u32.to_be_bytes(), 3_u64.to_be_bytes());
    let id = [&[0; 15][..], &[9]].concat();
    let payload = [&id, &secret[..], &counter, &next, &credit(1, 4, 100), &[0; 8]].concat();
    frame(kind::ATTACH, stream, &payload)
}

fn chunk(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(kind::CHUNK, stream, bytes)
}

fn cancel(stream: u32) -> Vec<u8> {
    frame(kind::CANCEL, stream, &[2, 1])
}

/// An open that announces a body and brings its first bytes.
fn begin(stream: u32, body_len: u32, body: &[u8]) -> Vec<u8> {
    Open { body_len, body, ..Open::default() }.frame(stream)
}

fn rule(frames: &[Vec<u8>]) -> &'static str {
    broken_rule(Role::Acceptor, &small(), frames)
}

#[test]
fn streams_are_numbered_without_a_gap() {
    let good = [open(1, b""), attach(3), open(5, b"")];
    let (events, error) = behind_hello(Role::Acceptor, &config(), &good);
    assert_eq!((events.len(), error), (3, None));
    let (events, error) =
        behind_hello(Role::Dialler, &config(), &[open(2, b""), attach(4), open(6, b"")]);
    assert_eq!((events.len(), error), (3, None));

    let gap = "streams must be numbered without a gap";
    for wrong in [0, 2, 3, 5, u32::MAX] {
        assert_eq!(rule(&[open(wrong, b"")]), gap);
        assert_eq!(rule(&[attach(wrong)]), gap);
    }
    for wrong in [0, 1, 2, 3, 7] {
        assert_eq!(rule(&[open(1, b""), attach(3), open(wrong, b"")]), gap);
    }
    assert_eq!(broken_rule(Role::Dialler, &small(), &[open(1, b"")]), gap);
}

#[test]
fn the_last_stream_is_known() {
    let mut reader = Reader::new(Role::Dialler, config());
    reader.events(&greeting()).unwrap();
    assert_eq!(reader.inbound.last_stream(), 0);
    reader.events(&[open(2, b""), open(4, b"")].concat()).unwrap();
    assert_eq!(reader.inbound.last_stream(), 4);
}

#[test]
fn opens_that_cannot_be_read_are_violations() {
    let header = |name: &[u8], value: &[u8]| {
        [&[name.len() as u8], name, &(value.len() as u16).to_be_bytes(), value].concat()
    };
    let many: Vec<u8> =
        (0..65_u8).flat_map(|number| header(format!("n{number}").as_bytes(), b"")).collect();
    let twice = [header(b"a", b"1"), header(b"a", b"2")].concat();
    let blocks =
        [many, twice, header(b"A", b""), header(b"", b""), header(b"a", b"\n"), vec![1, b'a', 0]];
    for headers in &blocks {
        let open = Open { headers, ..Open::default() }.frame(1);
        assert_eq!(rule(&[open]), "headers that cannot be read");
    }
    let long = vec![b'a'; 1025];
    for endpoint in [&long[..], b"\xFF/b/c"] {
        let open = Open { endpoint, ..Open::default() }.frame(1);
        assert_eq!(rule(&[open]), "an open frame that cannot be read");
    }
    for window in [(0, 1), (1, 0)] {
        let open = Open { window, ..Open::default() }.frame(1);
        assert_eq!(rule(&[open]), "a stream without any credit");
    }
    // Lengths of the header block and of the name that reach beyond the frame.
    for (at, len) in [(8 + 52, 4), (8 + 56, 2)] {
        let mut open = open(1, b"");
        open[at..at + len].fill(0xFF);
        assert_eq!(rule(&[open]), "an open frame that cannot be read");
    }
    let whole = open(1, b"");
    for cut in 0..whole.len() - 8 {
        let (events, error) =
            behind_hello(Role::Acceptor, &small(), &[frame(kind::OPEN, 1, &whole[8..8 + cut])]);
        assert!(events.is_empty() && matches!(error, Some(ConnectionError::Violation(_))));
    }
}

#[test]
fn bodies_arrive_whole_or_not_at_all() {
    let frames = [begin(1, 6, b"ab"), open(3, b"xy"), chunk(1, b"c"), chunk(1, b"def")];
    let mut reader = Reader::new(Role::Acceptor, small());
    reader.events(&greeting()).unwrap();
    let events = reader.events(&frames.concat()).unwrap();
    let [Event::Opened(small), Event::Opened(large)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((small.stream, &small.body[..]), (3, &b"xy"[..]));
    assert_eq!((large.stream, &large.body[..]), (1, &b"abcdef"[..]));
}

#[test]
fn chunks_must_fit_their_body() {
    assert_eq!(rule(&[begin(1, 6, b""), chunk(1, b"")]), "an empty chunk");
    assert_eq!(
        rule(&[begin(1, 3, b"ab"), chunk(1, b"cd")]),
        "a chunk beyond the end of its message"
    );
    assert_eq!(rule(&[chunk(1, b"a")]), "a chunk of a stream that was not opened");
    assert!(rule(&[begin(1, 1, b"ab")]).contains("longer than its first chunk"));
    assert!(rule(&[begin(1, 0, b"a")]).contains("longer than its first chunk"));
    // Chunks that crossed a cancel, or come behind a whole body, are skipped.
    let late = [begin(1, 6, b"ab"), cancel(1), chunk(1, b"c"), open(3, b"x"), chunk(3, b"y")];
    let (events, error) = behind_hello(Role::Acceptor, &small(), &late);
    assert_eq!(error, None);
    assert!(events[0].starts_with("OpenCancelled { stream: 1"), "{events:?}");
    assert!(events[1].starts_with("Opened"), "{events:?}");
    assert_eq!(events.len(), 2);
}

#[test]
fn bodies_are_bounded_in_length_and_number() {
    let (events, error) = behind_hello(Role::Acceptor, &small(), &[open(1, &[0; 64])]);
    assert_eq!((events.len(), error), (2, None), "the request, and a grant");
    assert_eq!(rule(&[begin(1, 65, b"")]), "a request body over the announced limit");
    assert_eq!(rule(&[begin(1, u32::MAX, b"")]), "a request body over the announced limit");
    let three = [begin(1, 2, b"a"), begin(3, 2, b"a"), begin(5, 2, b"a")];
    assert_eq!(rule(&three), "more streams at once than were announced");
    let cancelled = [begin(1, 2, b"a"), begin(3, 2, b"a"), cancel(1), begin(5, 2, b"a")];
    assert_eq!(behind_hello(Role::Acceptor, &small(), &cancelled).1, None);
}

#[test]
fn a_request_beyond_the_window_is_a_violation_and_a_grant_opens_it() {
    let overrun = "a request beyond the granted window";
    // 120 bytes begun of 100 granted; the second began in time.
    let full = [begin(1, 60, b"a"), begin(3, 60, b"b")];
    assert_eq!(behind_hello(Role::Acceptor, &small(), &full).1, None);
    let config = sinew_mux::MuxConfig { max_streams: 9, ..small() };
    for next in [open(5, b""), open(5, b"x")] {
        let frames = [full.concat(), next];
        assert_eq!(broken_rule(Role::Acceptor, &config, &frames), overrun);
    }
    // One body done, whole or cancelled, brings a grant: 60 done and a window of 100.
    for done in [chunk(1, &[b'a'; 59]), cancel(1)] {
        let frames = [full.concat(), done, open(5, b"x")];
        let (events, error) = behind_hello(Role::Acceptor, &config, &frames);
        assert_eq!(error, None);
        assert!(events.contains(&"GrantDue { total: 160 }".to_owned()), "{events:?}");
    }
    // Small ones are granted together.
    let frames: Vec<_> = (0..50).map(|number| open(1 + 2 * number, b"x")).collect();
    let (events, error) = behind_hello(Role::Acceptor, &config, &frames);
    let grants: Vec<_> = events.iter().filter(|event| event.starts_with("Grant")).collect();
    assert_eq!(error, None);
    assert_eq!(grants, ["GrantDue { total: 150 }"]);
}

#[test]
fn control_is_for_streams_that_its_sender_opened() {
    let unknown = "control of a stream that was not opened";
    let credit = |stream| frame(kind::CREDIT, stream, &credit(0, 1, 1));
    for stream in [0, 2, 3, u32::MAX] {
        assert_eq!(rule(&[open(1, b""), credit(stream)]), unknown);
        assert_eq!(rule(&[open(1, b""), cancel(stream)]), unknown);
    }
    for stream in [0, 1, 4] {
        let frames = [open(2, b""), credit(stream)];
        assert_eq!(broken_rule(Role::Dialler, &small(), &frames), unknown);
    }
}

#[test]
fn short_frames_are_violations_and_longer_ones_have_fields_of_later_versions() {
    let shared = [
        (kind::CREDIT, 1, credit(0, 1, 1)),
        (kind::CANCEL, 1, vec![1, 1]),
        (kind::ATTACH, 3, attach(3)[8..].to_vec()),
        (kind::GRANT, 0, u64::MAX.to_be_bytes().to_vec()),
        (kind::PING, 0, vec![0; 8]),
        (kind::GOAWAY, 0, [&[0; 4][..], &frames::error(402, 0, 0, b"")].concat()),
    ];
    for (kind, stream, payload) in shared {
        for cut in 0..payload.len() {
            rule(&[open(1, b""), frame(kind, stream, &payload[..cut])]);
        }
        let longer = [&payload[..], b"later"].concat();
        for payload in [payload, longer] {
            let (events, error) = behind_hello(
                Role::Acceptor,
                &small(),
                &[open(1, b""), frame(kind, stream, &payload)],
            );
            assert_eq!((events.len(), error), (2, None), "kind {kind}");
        }
    }
    // A done names as many streams as it has whole numbers.
    let done = frame(kind::DONE, 0, &[0, 0, 0, 1, 0, 0, 0]);
    let (events, _) = behind_hello(Role::Acceptor, &small(), &[done]);
    assert_eq!(events, ["Done { streams: [1] }"]);
}

#[test]
fn strengths_and_reasons_of_later_versions_have_a_meaning() {
    let bytes = [greeting(), open(1, b""), frame(kind::CANCEL, 1, &[77, 99])].concat();
    let (events, error) = read(Role::Acceptor, &small(), &bytes, bytes.len());
    assert_eq!(error, None);
    assert_eq!(events[2], "Cancel { stream: 1, kind: Kill, reason: Caller }");
}
