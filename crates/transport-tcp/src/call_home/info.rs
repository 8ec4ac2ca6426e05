//! What tells a worker where to dial: the connection info that travels inside a request.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sinew_codec::decode_control;
use sinew_plane::{Code, Error, Executed, StreamId};
use uuid::Uuid;

use crate::call_home::subject::{SUBJECT_TEXT_BYTES, Subject, write_uuid};

/// The name of this plane in a [`ConnectionInfo`].
pub const TCP_SERVER: &str = "tcp_server";

/// Longest connection info, in bytes. An address, two ids and some keys of later versions.
pub const MAX_INFO_BYTES: usize = 8 * 1024;

/// Version of the pool that this side offers and takes.
const POOL_VERSION: u32 = 1;

/// Where a stream is to be dialled back to, as a request carries it: the name of the plane, and
/// a text that only this plane reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// The plane: `tcp_server`.
    pub transport: String,
    /// JSON of a [`TcpStreamConnectionInfo`].
    pub info: String,
}

/// Which way the items of a connection go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamType {
    /// From the caller to the worker.
    Request,
    /// From the worker to the caller.
    Response,
}

/// The address to dial and the stream that is expected there. Keys that are not known here are
/// skipped, by this side and by Dynamo 1.6.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpStreamConnectionInfo {
    /// `HOST:PORT`; an IPv6 address stands in brackets.
    pub address: String,
    /// The stream's own id, random, as a UUID. Whoever knows it may deliver the stream.
    pub subject: String,
    /// The request's id.
    pub context: String,
    /// Which way the items go.
    pub stream_type: StreamType,
    /// What a caller built on Sinew says on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinew: Option<SinewOffer>,
}

/// What a caller built on Sinew says on top of Dynamo's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinewOffer {
    /// Version of what is offered.
    pub v: u32,
    /// Streams may come over shared connections.
    #[serde(default)]
    pub pool: bool,
    /// The process that answers at the address, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
}

impl SinewOffer {
    /// What this side offers.
    pub(crate) fn new(pool: bool, process: u64) -> Self {
        Self { v: POOL_VERSION, pool, process: Some(format!("{process:x}")) }
    }
}

impl TcpStreamConnectionInfo {
    /// The text that travels inside a request.
    pub fn to_text(&self) -> String {
        // Structs of strings: JSON can hold all of them.
        let info = serde_json::to_string(self).unwrap_or_default();
        let outer = ConnectionInfo { transport: TCP_SERVER.to_owned(), info };
        serde_json::to_string(&outer).unwrap_or_default()
    }

    /// Reads what [`to_text`](Self::to_text) writes, also when a Dynamo caller wrote it.
    ///
    /// # Errors
    /// [`Code::InvalidPayload`], without a run: it is over 8 KiB, no JSON of this shape, or for
    /// another plane.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        Info::read(text).map(Info::into_owned)
    }

    fn from_json(text: &str) -> Result<Self, Error> {
        let outer: ConnectionInfo = read(text)?;
        if outer.transport != TCP_SERVER {
            let shown: String = outer.transport.chars().take(64).collect();
            let message = format!("the response is to go over {shown:?}, and not over TCP");
            return Err(Error::new(Code::NoTransport, message));
        }
        read(&outer.info)
    }
}

/// A [`TcpStreamConnectionInfo`] as it was read: of slices of the text where its values stand
/// there as they read. It is read twice for every request, for a moment each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Info<'a> {
    pub(crate) address: Cow<'a, str>,
    pub(crate) subject: Cow<'a, str>,
    pub(crate) context: Cow<'a, str>,
    pub(crate) stream_type: StreamType,
    pub(crate) sinew: Option<Offer<'a>>,
}

/// A [`SinewOffer`] as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offer<'a> {
    v: u32,
    pool: bool,
    process: Option<Cow<'a, str>>,
}

impl<'a> Info<'a> {
    /// Reads a text.
    ///
    /// # Errors
    /// As [`TcpStreamConnectionInfo::from_text`].
    pub(crate) fn read(text: &'a str) -> Result<Self, Error> {
        if text.len() <= MAX_INFO_BYTES
            && let Some(info) = read_usual(text)
        {
            return Ok(info);
        }
        TcpStreamConnectionInfo::from_json(text).map(Self::from)
    }

    fn into_owned(self) -> TcpStreamConnectionInfo {
        let sinew = self.sinew.map(|Offer { v, pool, process }| {
            let process = process.map(Cow::into_owned);
            SinewOffer { v, pool, process }
        });
        TcpStreamConnectionInfo {
            address: self.address.into_owned(),
            subject: self.subject.into_owned(),
            context: self.context.into_owned(),
            stream_type: self.stream_type,
            sinew,
        }
    }
}

impl From<TcpStreamConnectionInfo> for Info<'_> {
    fn from(info: TcpStreamConnectionInfo) -> Self {
        let sinew = info.sinew.map(|SinewOffer { v, pool, process }| {
            let process = process.map(Cow::Owned);
            Offer { v, pool, process }
        });
        Self {
            address: info.address.into(),
            subject: info.subject.into(),
            context: info.context.into(),
            stream_type: info.stream_type,
            sinew,
        }
    }
}

impl Offer<'_> {
    /// True when the shared connections it offers are the ones known here.
    pub(crate) fn offers_pool(&self) -> bool {
        self.pool && self.v >= POOL_VERSION
    }

    /// The process that answers; 0, which names nobody, where it does not say.
    pub(crate) fn process(&self) -> u64 {
        self.process.as_deref().and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
    }
}

/// Reads a text that is written as [`TcpStreamConnectionInfo::to_text`] and Dynamo write it, with
/// values that stand there as they are. Any other text is read as JSON inside JSON, each checked
/// for keys that come twice, which takes 3 us where a short pooled response takes 10.
fn read_usual(text: &str) -> Option<Info<'_>> {
    let rest = text.strip_prefix(r#"{"transport":"tcp_server","info":"{\"address\":\""#)?;
    let (address, rest) = usual_value(rest)?;
    let (subject, rest) = usual_value(rest.strip_prefix(r#",\"subject\":\""#)?)?;
    let (context, rest) = usual_value(rest.strip_prefix(r#",\"context\":\""#)?)?;
    let (word, rest) = usual_value(rest.strip_prefix(r#",\"stream_type\":\""#)?)?;
    let stream_type = match word {
        "request" => StreamType::Request,
        "response" => StreamType::Response,
        _ => return None,
    };
    let sinew = match rest.strip_prefix(r#",\"sinew\":{\"v\":1,\"pool\":"#) {
        None => (rest == r#"}"}"#).then_some(None)?,
        Some(rest) => {
            let (pool, rest) = match rest.strip_prefix("true") {
                Some(rest) => (true, rest),
                None => (false, rest.strip_prefix("false")?),
            };
            let (process, rest) = usual_value(rest.strip_prefix(r#",\"process\":\""#)?)?;
            let process = Some(process.into());
            (rest == r#"}}"}"#).then_some(Some(Offer { v: 1, pool, process }))?
        }
    };
    let [address, subject, context] = [address, subject, context].map(Cow::Borrowed);
    Some(Info { address, subject, context, stream_type, sinew })
}

/// A value and what follows its closing quote. `None` when it is written in another way than it
/// reads, or ends otherwise.
fn usual_value(text: &str) -> Option<(&str, &str)> {
    let (value, rest) = text.split_once('\\')?;
    let is_usual = value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    Some((value, rest.strip_prefix('"').filter(|_| is_usual)?))
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    decode_control(text.as_bytes(), MAX_INFO_BYTES).map_err(|cause| {
        let message = format!("the connection info of the response cannot be read: {cause}");
        Error::new(Code::InvalidPayload, message).with_executed(Executed::No).with_source(cause)
    })
}

/// The text of infos that differ in their subject and request alone, but for those two.
pub(crate) struct InfoText {
    head: Box<str>,
    middle: Box<str>,
    tail: Box<str>,
}

impl InfoText {
    /// `info` without regard to its subject and context.
    pub(crate) fn new(info: TcpStreamConnectionInfo) -> Self {
        let (subject, context) = ("SUBJECT", "CONTEXT");
        let marked =
            TcpStreamConnectionInfo { subject: subject.into(), context: context.into(), ..info };
        let text = marked.to_text();
        // The last ones: an address, which may be any text, stands before both.
        let (rest, tail) = text.rsplit_once(context).unwrap_or_default();
        let (head, middle) = rest.rsplit_once(subject).unwrap_or_default();
        Self { head: head.into(), middle: middle.into(), tail: tail.into() }
    }

    pub(crate) fn fill(&self, subject: Subject, request: StreamId) -> String {
        let Self { head, middle, tail } = self;
        let ids = 2 * SUBJECT_TEXT_BYTES;
        let mut text = String::with_capacity(head.len() + middle.len() + tail.len() + ids);
        text.push_str(head);
        subject.write(&mut text);
        text.push_str(middle);
        write_uuid(request.0, &mut text);
        text.push_str(tail);
        text
    }
}

/// A request's id as it stands in a connection info: a UUID in lower case.
pub fn context_text(id: StreamId) -> String {
    Uuid::from_u128(id.0).hyphenated().to_string()
}

/// Reads a request's id that is a UUID.
pub fn context_id(text: &str) -> Option<StreamId> {
    Uuid::try_parse(text).ok().map(|it| StreamId(it.as_u128()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let info = TcpStreamConnectionInfo { sinew: Some(SinewOffer::new(true, 0x1f)), ..info() };
        let read = TcpStreamConnectionInfo::from_text(&info.to_text()).unwrap();
        assert_eq!(read, info);
        let offer = Info::from(read).sinew.unwrap();
        assert!(offer.offers_pool() && offer.process() == 0x1f);

        let later = r#"{"transport":"tcp_server","zone":1,"info":"{\"address\":\"a:1\",\"subject\":\"s\",\"context\":\"c\",\"stream_type\":\"request\",\"new\":[1]}"}"#;
        let read = TcpStreamConnectionInfo::from_text(later).unwrap();
        assert_eq!((read.stream_type, read.sinew), (StreamType::Request, None));
    }

    /// The short way reads what it should, and never anything else than the long way would.
    #[test]
    fn both_ways_of_reading_agree() {
        let mut short = 0;
        for address in ["127.0.0.1:9", "[::1]:4000", "", "a \"b\"", "a\\b", "h\u{e4}:1", "a b:1"] {
            for sinew in
                [None, Some((true, Some("1f"))), Some((false, Some("x\n"))), Some((true, None))]
            {
                let sinew = sinew.map(|(pool, process)| SinewOffer {
                    v: 1,
                    pool,
                    process: process.map(str::to_owned),
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
        // Three addresses and two offers need no escape, both ways.
        assert_eq!(short, 3 * 2 * 2);
    }

    /// The text without one byte, with one byte more, and with one that is another.
    fn assert_changes_agree(text: &str) {
        for at in 0..=text.len() {
            for (byte, skipped) in [(None, 1), (Some(b'\\'), 0), (Some(b'"'), 1), (Some(b'\n'), 1)]
            {
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
        for address in ["127.0.0.1:9", "[::1]:1", "SUBJECT.CONTEXT", "a \"quoted\" one\n\u{e4}"] {
            for sinew in [None, Some(SinewOffer::new(true, 0x1f)), Some(SinewOffer::new(false, 0))]
            {
                let info = TcpStreamConnectionInfo {
                    address: address.into(),
                    subject: subject.to_string(),
                    context: context_text(request),
                    sinew,
                    ..info()
                };
                let written = info.to_text();
                assert_eq!(InfoText::new(info).fill(subject, request), written);
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
}
