//! What travels inside a request, written and read.

use super::{parsed::read_usual, *};

const TOKEN: &[u8; TOKEN_BYTES] = &[0x5a; TOKEN_BYTES];

#[test]
fn a_token_and_a_subject_are_in_no_log() {
    let offer = SinewOffer::new(ProcessId(1), Some(TOKEN));
    let info = TcpStreamConnectionInfo { sinew: Some(offer), ..info() };
    let text = info.to_text();
    let secrets = ["5a5a", &info.subject];
    assert!(secrets.iter().all(|secret| text.contains(secret)), "for the worker they are there");
    let outer: ConnectionInfo = read(&text).unwrap();
    let read = ParsedConnectionInfo::read(&text).unwrap();
    for shown in [format!("{info:?}"), format!("{read:?}"), format!("{outer:?}")] {
        assert!(!secrets.iter().any(|secret| shown.contains(secret)), "{shown}");
    }
}

fn info() -> TcpStreamConnectionInfo {
    TcpStreamConnectionInfo {
        address: "[::1]:4000".into(),
        subject: Subject::random(3).to_string(),
        context: context_text(StreamId(7)),
        stream_type: StreamType::Response,
        sinew: None,
    }
}

#[test]
fn the_text_has_the_keys_of_dynamo_in_their_order() {
    let info = TcpStreamConnectionInfo {
        address: "127.0.0.1:9".into(),
        subject: "s".into(),
        context: "c".into(),
        ..info()
    };
    assert_eq!(
        info.to_text(),
        r#"{"transport":"tcp_server","info":"{\"address\":\"127.0.0.1:9\",\"subject\":\"s\",\"context\":\"c\",\"stream_type\":\"response\"}"}"#
    );
}

#[test]
fn what_was_written_is_read_and_unknown_keys_are_skipped() {
    let info = TcpStreamConnectionInfo {
        sinew: Some(SinewOffer::new(ProcessId(0x1f), Some(TOKEN))),
        ..info()
    };
    let read = TcpStreamConnectionInfo::from_text(&info.to_text()).unwrap();
    assert_eq!(read, info);
    let offer = ParsedConnectionInfo::from(read).sinew.unwrap();
    assert_eq!((offer.token(), offer.process()), (Some(*TOKEN), ProcessId(0x1f)));
    assert!(offer.confirms() && offer.knows_heartbeats() && offer.knows_metadata());

    // What version 1 said: shared connections for whoever named the process.
    let earlier = info.to_text().replace(
        r#"\"v\":4,\"process\":\"1f\",\"token\":\"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\""#,
        r#"\"v\":1,\"pool\":true,\"process\":\"1f\""#,
    );
    assert_ne!(earlier, info.to_text());
    let offer = ParsedConnectionInfo::from(TcpStreamConnectionInfo::from_text(&earlier).unwrap());
    let offer = offer.sinew.unwrap();
    assert!(offer.token().is_none() && !offer.confirms() && offer.process() == ProcessId(0x1f));

    for (v, knows_heartbeats) in [(2, false), (3, true)] {
        let earlier = info.to_text().replace(r#"\"v\":4,"#, &format!(r#"\"v\":{v},"#));
        let offer = ParsedConnectionInfo::read(&earlier).unwrap().sinew.unwrap();
        assert!(offer.token().is_some() && offer.confirms() && !offer.knows_metadata());
        assert_eq!(offer.knows_heartbeats(), knows_heartbeats);
    }

    let later = r#"{"transport":"tcp_server","zone":1,"info":"{\"address\":\"a:1\",\"subject\":\"s\",\"context\":\"c\",\"stream_type\":\"request\",\"new\":[1]}"}"#;
    let read = TcpStreamConnectionInfo::from_text(later).unwrap();
    assert_eq!((read.stream_type, read.sinew), (StreamType::Request, None));
}

/// The short way reads what it should, and never anything else than the long way would.
#[test]
fn both_ways_of_reading_agree() {
    let mut short = 0;
    for address in ["127.0.0.1:9", "[::1]:4000", "", "a \"b\"", "a\\b", "h\u{e4}:1", "a b:1"] {
        for sinew in [
            None,
            Some((Some("1f"), Some("5a"))),
            Some((Some("1f"), None)),
            Some((Some("x\n"), Some("5a"))),
            Some((None, Some("5a"))),
        ] {
            let sinew = sinew.map(|(process, token)| SinewOffer {
                v: OFFER_VERSION,
                process: process.map(str::to_owned),
                token: token.map(str::to_owned),
            });
            for stream_type in [StreamType::Request, StreamType::Response] {
                let (address, sinew) = (address.to_owned(), sinew.clone());
                let info = TcpStreamConnectionInfo { address, sinew, stream_type, ..info() };
                let text = info.to_text();
                assert_eq!(TcpStreamConnectionInfo::from_json(&text).unwrap(), info, "{text}");
                let read = read_usual(&text);
                short += usize::from(read.is_some());
                assert!(read.is_none_or(|read| read.into_owned() == info), "{text}");
                assert_changes_agree(&text);
            }
        }
    }
    // Three addresses and three offers need no escape, both ways.
    assert_eq!(short, 3 * 3 * 2);
}

/// The text without one byte, with one byte more, and with one that is another.
fn assert_changes_agree(text: &str) {
    for at in 0..=text.len() {
        for (byte, skipped) in [(None, 1), (Some(b'\\'), 0), (Some(b'"'), 1), (Some(b'\n'), 1)] {
            let mut changed = text.as_bytes()[..at].to_vec();
            changed.extend(byte);
            changed.extend(text.as_bytes().get(at + skipped..).unwrap_or_default());
            let Ok(changed) = String::from_utf8(changed) else { continue };
            if let Some(read) = read_usual(&changed) {
                let json = TcpStreamConnectionInfo::from_json(&changed);
                assert_eq!(Some(read.into_owned()), json.ok(), "{changed}");
            }
        }
    }
}

#[test]
fn what_is_not_for_this_plane_is_refused_without_a_run() {
    let long = format!(r#"{{"transport":"tcp_server","info":"{}"}}"#, "x".repeat(9000));
    for text in [
        "",
        "{}",
        "null",
        r#"{"transport":"quic-response","info":"{}"}"#,
        r#"{"transport":"tcp_server","info":"not json"}"#,
        r#"{"transport":"tcp_server","info":"{\"address\":1}"}"#,
        r#"{"transport":"tcp_server","transport":"x","info":"{}"}"#,
        &long,
        &TcpStreamConnectionInfo { address: "x".repeat(9000), ..info() }.to_text(),
    ] {
        let error = TcpStreamConnectionInfo::from_text(text).unwrap_err();
        assert_eq!(error.executed(), Executed::No, "{error:?}");
    }
}

#[test]
fn a_text_that_is_filled_in_is_the_same_as_one_that_is_written() {
    let (subject, request) = (Subject::random(3), StreamId(0xABC));
    for address in ["127.0.0.1:9", "[::1]:1", "SUBJECT.CONTEXT.TOKEN", "a \"quoted\" one\n\u{e4}"] {
        for token in [None, Some(None), Some(Some(TOKEN))] {
            let info = TcpStreamConnectionInfo {
                address: address.into(),
                subject: subject.to_string(),
                context: context_text(request),
                sinew: token.map(|token| SinewOffer::new(ProcessId(0x1f), token)),
                ..info()
            };
            let written = info.to_text();
            let filled = ConnectionInfoTemplate::new(info).fill(subject, request, token.flatten());
            assert_eq!(filled, written);
        }
    }
}

#[test]
fn a_request_id_is_shown_as_a_uuid_and_read_back() {
    let text = context_text(StreamId(0x1234));
    assert_eq!(text, "00000000-0000-0000-0000-000000001234");
    assert_eq!(context_id(&text), Some(StreamId(0x1234)));
    assert_eq!(context_id("chatcmpl-1"), None);
}
