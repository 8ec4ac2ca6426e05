//! Head and facts on a connection of one stream, byte for byte.

use bytes::Bytes;
use sinew_dynamo_wire::{SinewOffer, StreamType};
use sinew_plane::{CancelReason, Code, Error, Headers, Outcome};

use crate::{
    delivery::{any_caller, drain, next, plain, worker},
    fixture::soon,
    hostile::RawCaller,
    wire::{PROLOGUE, SENTINEL, expect, frame, header, item, receive},
};

const HEAD: &str = "\"head\"";
const FACTS: &str = "\"facts\"";
const BLOCK: &[u8] = b"\x05model\x00\x01m";

fn said() -> Headers {
    Headers::decode(Bytes::from_static(BLOCK)).unwrap()
}

fn head() -> Vec<u8> {
    frame(HEAD.as_bytes(), BLOCK)
}

fn facts() -> Vec<u8> {
    frame(FACTS.as_bytes(), BLOCK)
}

#[tokio::test]
async fn head_and_facts_are_read_where_they_stand() {
    let caller = any_caller();
    for end in [SENTINEL, r#"{"error":"boom"}"#] {
        let (mut stream, mut worker) = expect(&caller).await;
        worker.send(&[header(PROLOGUE), head(), item("one"), facts(), header(end)].concat()).await;
        assert_eq!(soon("the head", stream.head()).await.unwrap(), said());
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), "one");
        assert!(stream.facts().is_empty());
        let ended = next(&mut stream).await;
        assert_eq!(ended.is_none(), end == SENTINEL);
        assert_eq!(
            (stream.facts(), soon("the head", stream.head()).await.unwrap()),
            (said(), said())
        );
    }
}

/// As of a Dynamo worker: what comes instead of the head is not lost.
#[tokio::test]
async fn the_wait_for_a_head_ends_with_an_item_and_keeps_it() {
    let caller = any_caller();
    for behind in [[item("two"), header(SENTINEL)].concat(), Vec::new()] {
        let (mut stream, mut worker) = expect(&caller).await;
        worker.send(&[header(PROLOGUE), item("one"), behind.clone()].concat()).await;
        for _ in 0..2 {
            assert!(soon("no head", stream.head()).await.unwrap().is_empty());
        }
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), "one");
        if behind.is_empty() {
            worker.send(&[item("two"), header(SENTINEL)].concat()).await;
        }
        let (items, outcome) = drain(stream).await;
        assert_eq!(items, ["two"]);
        assert!(matches!(outcome, Outcome::Complete { items: 2 }), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_head_or_facts_out_of_place_end_the_stream() {
    let begun = || header(PROLOGUE);
    for (what, bytes) in [
        ("a head before the prologue", head()),
        ("a second head", [begun(), head(), head()].concat()),
        ("a head after an item", [begun(), item("x"), head()].concat()),
        ("a head that is none", [begun(), frame(HEAD.as_bytes(), &BLOCK[..8])].concat()),
        ("a head over its limit", [begun(), frame(HEAD.as_bytes(), &[b'a'; 65_537])].concat()),
        ("second facts", [begun(), facts(), facts()].concat()),
        ("facts of nothing", [begun(), frame(FACTS.as_bytes(), b"")].concat()),
        ("facts that are none", [begun(), frame(FACTS.as_bytes(), b"x")].concat()),
    ] {
        let caller = any_caller();
        let (mut stream, mut worker) = expect(&caller).await;
        worker.send(&bytes).await;
        let error = loop {
            match next(&mut stream).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("{what} was accepted"),
            }
        };
        assert_eq!(error.code(), Code::Violation, "{what}: {error:?}");
        assert_eq!(worker.control().await.as_deref(), Some("\"kill\""), "{what}");
    }
}

/// What a caller of this version hears, and what Dynamo and earlier callers do.
#[tokio::test]
async fn only_callers_that_take_a_head_and_facts_are_sent_them() {
    let offer = |v| Some(SinewOffer { v, process: None, token: None });
    for (offer, takes) in [(None, false), (offer(3), false), (offer(4), true)] {
        for cancels in [false, true] {
            let caller = RawCaller::offering(StreamType::Response, offer.clone()).await;
            let worker = worker(plain());
            let (mut socket, mut sink) = caller.accept(&worker).await;
            sink.head(said()).unwrap();
            // It says that the handler has begun, whether or not it can be told.
            assert_eq!(receive(&mut socket).await.unwrap(), (PROLOGUE.into(), Vec::new()));
            sink.send(Bytes::from("one")).await.unwrap();
            sink.set_facts(said());
            if cancels {
                sink.cancelled(CancelReason::Shutdown);
            } else {
                sink.fail(Error::handler("boom"));
            }
            let expect = async |header: &str, body: &[u8], socket: &mut _| {
                let got = receive(socket).await.unwrap();
                assert_eq!(got, (header.as_bytes().to_vec(), body.to_vec()));
            };
            if takes {
                expect(HEAD, BLOCK, &mut socket).await;
            }
            expect("", b"one", &mut socket).await;
            if takes {
                expect(FACTS, BLOCK, &mut socket).await;
            }
            match receive(&mut socket).await {
                Some((end, body)) => {
                    assert!(end.starts_with(b"{\"error\":") && body.is_empty(), "{end:?}");
                    expect(SENTINEL, b"", &mut socket).await;
                }
                // What Dynamo is told of a cancel.
                None => assert!(cancels && offer.is_none()),
            }
        }
    }
}

#[tokio::test]
async fn what_is_over_the_limit_of_a_frame_is_left_out() {
    let mut large = Headers::new();
    large.insert("a", &"x".repeat(2_000)).unwrap();
    let offer = SinewOffer { v: 4, process: None, token: None };
    let caller = RawCaller::offering(StreamType::Response, Some(offer)).await;
    let mut config = plain();
    config.max_frame_bytes = 1024;
    let worker = worker(config);
    let (mut socket, mut sink) = caller.accept(&worker).await;
    sink.head(large.clone()).unwrap();
    sink.complete_with(large);
    for header in [PROLOGUE, SENTINEL] {
        assert_eq!(receive(&mut socket).await.unwrap().0, header.as_bytes());
    }
}
