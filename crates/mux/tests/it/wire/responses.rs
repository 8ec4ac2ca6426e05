//! What a producer may say, to the connection and to the consumer.

use sinew_mux::{ConnectionError, Consumer, Event, MuxConfig, Role};
use sinew_plane::{AppCode, Code, Executed, Terminal, Window};

use super::{behind_hello, broken_rule};
use crate::{
    frames::{self, frame, greeting, kind},
    reading::{Reader, config, small},
};

const WINDOW: Window = Window { items: 4, bytes: 40 };

fn item(bytes: &[u8]) -> Vec<u8> {
    frame(kind::ITEM, 1, bytes)
}

fn item_begin(total: u32, bytes: &[u8]) -> Vec<u8> {
    frame(kind::ITEM_BEGIN, 1, &[&total.to_be_bytes(), bytes].concat())
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    frame(kind::CHUNK, 1, bytes)
}

fn complete(items: u64) -> Vec<u8> {
    frame(kind::COMPLETE, 1, &items.to_be_bytes())
}

fn cancelled(items: u64) -> Vec<u8> {
    frame(kind::CANCELLED, 1, &[&items.to_be_bytes()[..], &[1]].concat())
}

/// Reads frames of stream 1 into its consumer, up to the first error.
fn consume(frames: &[Vec<u8>]) -> (Consumer, Option<ConnectionError>) {
    let mut reader = Reader::new(Role::Dialler, small());
    let mut consumer = Consumer::new(WINDOW);
    reader.events(&greeting()).unwrap();
    let fed = reader.feed(&frames.concat(), |event| {
        match event {
            Event::Accept { .. } => consumer.on_accept()?,
            Event::Items { items, .. } => consumer.on_items(items)?,
            Event::ItemBegin { total, .. } => consumer.on_item_begin(total)?,
            Event::ItemEnd { item, .. } => consumer.on_item_end(item)?,
            Event::Chunk { .. } => consumer.on_chunk()?,
            Event::Head { head, .. } => consumer.on_head(head).map(drop)?,
            Event::Checkpoint { checkpoint, .. } => consumer.on_checkpoint(checkpoint).map(drop)?,
            Event::Ended { terminal, items, facts, .. } => {
                consumer.on_terminal(terminal, items, facts)?;
            }
            event => panic!("{event:?}"),
        }
        Ok(())
    });
    (consumer, fed.err())
}

fn rule(frames: &[Vec<u8>]) -> &'static str {
    match consume(frames).1 {
        Some(ConnectionError::Violation(rule)) => rule,
        other => panic!("no violation: {other:?}"),
    }
}

#[test]
fn items_come_whole_and_in_chunks() {
    let frames = [
        frame(kind::ACCEPT, 1, b"later"),
        item(b""),
        item_begin(4, b""),
        chunk(b"ab"),
        chunk(b"cd"),
        item(b"e"),
        frame(kind::COMPLETE, 1, &[&3_u64.to_be_bytes()[..], &[0; 4], b"later"].concat()),
    ];
    let (mut consumer, error) = consume(&frames);
    assert_eq!(error, None);
    let mut items = sinew_plane::ItemBatch::new();
    consumer.take(&mut items);
    assert_eq!(items.collect::<Vec<_>>(), ["", "abcd", "e"]);
}

fn checkpoint(items: u64, state: &[u8]) -> Vec<u8> {
    frame(kind::CHECKPOINT, 1, &[&items.to_be_bytes(), state].concat())
}

#[test]
fn a_checkpoint_covers_items_that_have_come() {
    let longest = vec![7; 65_536];
    let frames = [checkpoint(0, b"begin"), item(b"x"), checkpoint(1, &longest), item(b"y")];
    let (consumer, error) = consume(&frames);
    let newest = consumer.checkpoint().map(|it| (it.items, it.state.len()));
    assert_eq!((newest, error), (Some((1, 65_536)), None));
    assert!(consumer.is_started());
    let (consumer, error) = consume(&[item(b"x"), checkpoint(1, b"one"), checkpoint(0, b"none")]);
    assert_eq!((consumer.checkpoint().map(|it| it.items), error), (Some(1), None));
    let too_long = [&longest[..], b"x"].concat();
    let rules = [
        (vec![checkpoint(1, b"")], "a checkpoint for items that have not arrived"),
        (vec![item_begin(4, b"x"), checkpoint(0, b"")], "a checkpoint inside an item"),
        (vec![complete(0), checkpoint(0, b"")], "a frame after the end of its stream"),
        (vec![checkpoint(0, &too_long)], "a checkpoint over the limit"),
        (vec![frame(kind::CHECKPOINT, 1, &[0; 7])], "a response frame that cannot be read"),
    ];
    for (frames, broken) in rules {
        assert_eq!(rule(&frames), broken);
    }
}

fn with_facts(kind: u8, fields: &[u8], length: u32, block: &[u8]) -> Vec<u8> {
    frame(kind, 1, &[&0_u64.to_be_bytes()[..], fields, &length.to_be_bytes(), block].concat())
}

#[test]
fn a_head_goes_before_the_items() {
    let head = || frame(kind::HEAD, 1, b"\x01a\0\x01b");
    let (consumer, error) = consume(&[frame(kind::ACCEPT, 1, b""), head(), head(), item(b"x")]);
    assert_eq!(error, None, "a second one is without effect");
    assert_eq!(consumer.head().unwrap().get("a"), Some("b"));
    for before in [item(b"x"), item_begin(4, b"")] {
        assert_eq!(rule(&[before, head()]), "a head after an item");
    }
    assert_eq!(rule(&[complete(0), head()]), "a frame after the end of its stream");
}

#[test]
fn facts_follow_the_fields_of_an_end() {
    let block = b"\x01a\0\x01b";
    for (kind, fields) in
        [(kind::COMPLETE, &[][..]), (kind::CANCELLED, &[1]), (kind::FAILED, &ERROR)]
    {
        let (consumer, error) = consume(&[with_facts(kind, fields, 5, &block[..])]);
        assert_eq!(error, None);
        assert_eq!(consumer.facts().get("a"), Some("b"), "kind {kind}");
        let later = [&block[..], b"later"].concat();
        assert_eq!(consume(&[with_facts(kind, fields, 5, &later)]).1, None);
        let (consumer, error) = consume(&[with_facts(kind, fields, 0, b"")]);
        assert!(error.is_none() && consumer.facts().is_empty());
        assert_eq!(rule(&[with_facts(kind, fields, 6, &block[..])]), "facts that are cut short");
    }
}

/// The least error there is.
const ERROR: [u8; 13] = [1, 45, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn a_head_and_facts_are_bounded_as_headers() {
    let block = |values: &[usize]| {
        let entries = values.iter().zip(b'a'..).map(|(length, name)| {
            let value = vec![b'x'; *length];
            [&[1, name][..], &(*length as u16).to_be_bytes(), &value].concat()
        });
        entries.collect::<Vec<_>>().concat()
    };
    let names = |count: u8| (0..count).map(|at| [2, b'a' + at % 26, b'a' + at / 26, 0, 0]);
    let rule_of = |block: &[u8]| {
        let facts = with_facts(kind::COMPLETE, b"", block.len() as u32, block);
        [frame(kind::HEAD, 1, block), facts].map(|frame| consume(&[frame]).1)
    };
    let broken = ConnectionError::Violation("headers that cannot be read");
    assert_eq!(rule_of(&block(&[32_764, 32_764])), [None, None], "65,536 bytes");
    assert_eq!(rule_of(&block(&[32_764, 32_765])), [Some(broken.clone()), Some(broken.clone())]);
    assert_eq!(rule_of(&names(64).collect::<Vec<_>>().concat()), [None, None]);
    assert_eq!(
        rule_of(&names(65).collect::<Vec<_>>().concat()),
        [Some(broken.clone()), Some(broken.clone())]
    );
    for bad in [&b"\x01A\0\0"[..], b"\x01a\0\x02b", b"\x01a\0\x01\n", b"\x01a\0\0\x01a\0\0"] {
        assert_eq!(rule_of(bad), [Some(broken.clone()), Some(broken.clone())]);
    }
}

/// A reader behind the greeting, with limits that leave room for chunks that are cut.
fn reader() -> Reader {
    let mut reader = Reader::new(Role::Dialler, config());
    reader.events(&greeting()).unwrap();
    reader
}

#[test]
fn an_item_inside_another_is_told_whoever_wants_it() {
    for wanted in [true, false] {
        let mut reader = reader();
        reader.events(&item_begin(5_000, &[0; 4_000])).unwrap();
        reader.wanted = wanted;
        let second = item_begin(100_000, &[0; 60_000]);
        let (front, back) = second.split_at(10_000);
        assert!(reader.events(front).unwrap().is_empty());
        let error = reader.events(back).unwrap_err();
        assert_eq!(error, ConnectionError::Violation("an item inside another"));
    }
}

#[test]
fn what_nobody_wants_any_more_is_let_go_of_and_skipped() {
    let mut reader = reader();
    reader.events(&item_begin(5_000, &[0; 4_000])).unwrap();
    reader.inbound.forget(1);
    let events = reader.events(&chunk(&[0; 1_000])).unwrap();
    assert!(matches!(events[..], [Event::Chunk { stream: 1 }]), "{events:?}");

    reader.events(&item_begin(100_000, &[0; 3_000])).unwrap();
    let second = chunk(&[0; 60_000]);
    let (front, back) = second.split_at(10_000);
    reader.events(front).unwrap();
    assert!(reader.inbound.room().is_some());
    reader.inbound.forget(1);
    assert!(reader.inbound.room().is_none());
    let events = reader.events(&[back, &item(b"next")].concat()).unwrap();
    assert!(matches!(events[..], [Event::Items { stream: 1, .. }]), "{events:?}");
}

#[test]
fn chunks_must_fit_their_item() {
    assert_eq!(rule(&[chunk(b"a")]), "a chunk outside an item");
    assert_eq!(rule(&[item(b"a"), chunk(b"a")]), "a chunk outside an item");
    assert_eq!(rule(&[item_begin(3, b"ab"), chunk(b"c"), chunk(b"d")]), "a chunk outside an item");
    assert_eq!(rule(&[item_begin(3, b"ab"), chunk(b"")]), "an empty chunk");
    assert!(rule(&[item_begin(3, b"ab"), chunk(b"cd")]).contains("beyond the end"));
    assert!(rule(&[item_begin(2, b"ab")]).contains("longer than its first chunk"));
    assert!(rule(&[item_begin(0, b"")]).contains("longer than its first chunk"));
    assert_eq!(rule(&[item_begin(3, b"ab"), item(b"c")]), "an item inside another");
    assert_eq!(rule(&[item_begin(3, b"ab"), item_begin(3, b"ab")]), "an item inside another");
}

#[test]
fn an_item_needs_credit() {
    let short = [item(b""), item(b""), item(b""), item(b"")];
    let (consumer, error) = consume(&short);
    assert_eq!((consumer.received(), error), (4, None));
    for fifth in [item(b""), item_begin(3, b"a")] {
        assert_eq!(rule(&[&short[..], &[fifth]].concat()), "an item without credit");
    }
    // One may go over the bytes; the next may not begin, not even an empty one.
    let long = [item(&[0; 39]), item(&[0; 64])];
    assert_eq!(consume(&long).1, None);
    assert_eq!(rule(&[&long[..], &[item(b"")]].concat()), "an item without credit");
    // An item counts in full when it begins.
    let begun = [item_begin(40, b"a"), chunk(&[0; 39])];
    assert_eq!(rule(&[&begun[..], &[item(b"")]].concat()), "an item without credit");
}

#[test]
fn items_are_bounded() {
    let too_large = "an item over the announced limit";
    assert_eq!(consume(&[item(&[0; 64])]).1, None);
    assert_eq!(rule(&[item(&[0; 65])]), too_large);
    assert_eq!(consume(&[item_begin(64, b"")]).1, None);
    assert_eq!(rule(&[item_begin(65, b"")]), too_large);
    assert_eq!(rule(&[item_begin(u32::MAX, b"a")]), too_large);
}

#[test]
fn one_end_and_nothing_behind_it() {
    let after = "a frame after the end of its stream";
    let reject = frame(kind::REJECT, 1, &frames::error(401, 0, 0, b""));
    let failed = frame(kind::FAILED, 1, &[&[0; 8][..], &frames::error(301, 2, 0, b"")].concat());
    for end in [complete(0), cancelled(0), reject.clone(), failed] {
        let (consumer, error) = consume(std::slice::from_ref(&end));
        assert!(consumer.ended().is_some() && error.is_none());
        let accept = frame(kind::ACCEPT, 1, b"");
        for next in
            [accept, item(b""), item_begin(3, b""), complete(0), cancelled(0), reject.clone()]
        {
            assert_eq!(rule(&[end.clone(), next]), after);
        }
        assert_eq!(rule(&[end, chunk(b"a")]), "a chunk outside an item");
    }
}

#[test]
fn an_end_counts_the_items_that_arrived() {
    let wrong = "an end that does not fit the items that arrived";
    for items in [0, 2, u64::MAX] {
        assert_eq!(rule(&[item(b"a"), complete(items)]), wrong);
        assert_eq!(rule(&[item(b"a"), cancelled(items)]), wrong);
    }
    assert_eq!(rule(&[item(b"a"), frame(kind::REJECT, 1, &frames::error(401, 0, 0, b""))]), wrong);
    // An unfinished item does not count, and nothing may be complete inside it.
    assert_eq!(consume(&[item_begin(3, b"a"), cancelled(0)]).1, None);
    let late = [item_begin(3, b"a"), cancelled(0), chunk(b"b")];
    assert_eq!(rule(&late), "a chunk outside an item");
    assert_eq!(rule(&[item_begin(3, b"a"), complete(0)]), "a complete end inside an item");
}

#[test]
fn a_producer_speaks_on_its_peers_streams_only() {
    let own = "a response on a stream of its own sender";
    let all = [kind::ACCEPT, kind::ITEM, kind::ITEM_BEGIN, kind::COMPLETE, kind::FAILED];
    for kind in all.into_iter().chain([kind::CANCELLED, kind::REJECT]) {
        for stream in [0, 2, 4] {
            let frames = [frame(kind, stream, &[0; 20])];
            assert_eq!(broken_rule(Role::Dialler, &small(), &frames), own);
        }
        assert_eq!(broken_rule(Role::Acceptor, &small(), &[frame(kind, 1, &[0; 20])]), own);
    }
}

#[test]
fn short_responses_are_violations() {
    let error = frames::error(301, 2, 0, b"");
    let shared = [
        (kind::ITEM_BEGIN, vec![0, 0, 0, 9]),
        (kind::COMPLETE, vec![0; 8]),
        (kind::CANCELLED, vec![0; 9]),
        (kind::FAILED, [&[0; 8][..], &error].concat()),
        (kind::REJECT, error),
    ];
    for (kind, payload) in shared {
        for cut in 0..payload.len() {
            broken_rule(Role::Dialler, &small(), &[frame(kind, 1, &payload[..cut])]);
        }
        let whole = behind_hello(Role::Dialler, &small(), &[frame(kind, 1, &payload)]);
        assert_eq!((whole.0.len(), whole.1), (1, None), "kind {kind}");
    }
}

#[test]
fn details_over_the_limit_are_a_violation() {
    let over = frames::application_error((301, 2, 0), 5, b"", &[0; 8_193]);
    let failed = frame(kind::FAILED, 1, &[&[0; 8][..], &over].concat());
    broken_rule(Role::Dialler, &MuxConfig::default(), &[failed]);
}

#[test]
fn errors_are_read_with_what_can_be_relied_on() {
    let read = |kind: u8, head: &[u8], error: &[u8]| {
        let mut reader = Reader::new(Role::Dialler, MuxConfig::default());
        reader.events(&greeting()).unwrap();
        let events = reader.events(&frame(kind, 1, &[head, error].concat())).unwrap();
        match events.into_iter().next() {
            Some(Event::Ended { terminal: Terminal::Failed { error }, .. }) => error,
            event => panic!("{event:?}"),
        }
    };
    let failed = |error: &[u8]| read(kind::FAILED, &[0; 8], error);
    let unknown = failed(&frames::error(9999, 0, 0, b"new"));
    assert_eq!((unknown.code(), unknown.executed()), (Code::HandlerFailed, Executed::No));
    assert_eq!(failed(&frames::error(301, 77, 0, b"")).executed(), Executed::Maybe);
    assert_eq!(failed(&frames::error(301, 2, 0, &[b'x'; 5000])).message().len(), 4096);
    assert_eq!(failed(&frames::error(301, 2, 0, b"a\xFFb")).message(), "a\u{FFFD}b");
    let said = frames::application_error((301, 2, 0), 5, b"no model", b"{}");
    let said = failed(&said);
    assert_eq!((said.app_code(), &said.details()[..]), (Some(AppCode::NOT_FOUND), &b"{}"[..]));
    let later = failed(&frames::application_error((301, 2, 0), 17, b"", b""));
    assert_eq!(later.app_code().map(AppCode::to_wire), Some(17), "a later version's");
    // A reject means that nothing ran, whatever its error says.
    let reject = read(kind::REJECT, &[], &frames::error(301, 2, 1500, b""));
    assert_eq!(reject.executed(), Executed::No);
    assert_eq!(reject.retry_after().map(|delay| delay.as_millis()), Some(1500));
}
