//! What tells a worker where to dial: the connection info that travels inside a request.

use serde::{Deserialize, Serialize};
use sinew_codec::decode_control;
use sinew_plane::{Code, Error, Executed, StreamId};
use uuid::Uuid;

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

    /// True when the shared connections it offers are the ones known here.
    pub(crate) fn offers_pool(&self) -> bool {
        self.pool && self.v >= POOL_VERSION
    }

    /// The process that answers; 0, which names nobody, where it does not say.
    pub(crate) fn process(&self) -> u64 {
        self.process.as_deref().and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
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
        let outer: ConnectionInfo = read(text)?;
        if outer.transport != TCP_SERVER {
            let shown: String = outer.transport.chars().take(64).collect();
            let message = format!("the response is to go over {shown:?}, and not over TCP");
            return Err(Error::new(Code::NoTransport, message));
        }
        read(&outer.info)
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    decode_control(text.as_bytes(), MAX_INFO_BYTES).map_err(|cause| {
        let message = format!("the connection info of the response cannot be read: {cause}");
        Error::new(Code::InvalidPayload, message).with_executed(Executed::No).with_source(cause)
    })
}

/// The id of a stream that is expected: 128 random bits of which four say in which part of the
/// table it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Subject(u128);

impl Subject {
    /// A random subject, from the system's generator since it is also the key to the stream.
    pub(crate) fn random(shard: usize) -> Self {
        // The lowest bits are free of the UUID's version and variant.
        let random = Uuid::new_v4().as_u128() & !0xF;
        Self(random | (shard as u128 & 0xF))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        // Of the forms that a UUID may have only the one that is sent.
        let hyphenated = text.len() == 36;
        hyphenated.then(|| Uuid::try_parse(text).ok()).flatten().map(|it| Self(it.as_u128()))
    }

    /// Some of its random bits.
    pub(crate) fn spread(self) -> usize {
        // Those at the top: no version, no variant, no shard.
        (self.0 >> 96) as usize
    }

    /// Which part of the table it stands in.
    pub(crate) fn shard(self) -> usize {
        (self.0 & 0xF) as usize
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Uuid::from_u128(self.0).hyphenated())
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
        let offer = read.sinew.unwrap();
        assert!(offer.offers_pool() && offer.process() == 0x1f);

        let later = r#"{"transport":"tcp_server","zone":1,"info":"{\"address\":\"a:1\",\"subject\":\"s\",\"context\":\"c\",\"stream_type\":\"request\",\"new\":[1]}"}"#;
        let read = TcpStreamConnectionInfo::from_text(later).unwrap();
        assert_eq!((read.stream_type, read.sinew), (StreamType::Request, None));
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
        ] {
            let error = TcpStreamConnectionInfo::from_text(text).unwrap_err();
            assert_eq!(error.executed(), Executed::No, "{error:?}");
        }
    }

    #[test]
    fn subjects_are_uuids_of_version_4_that_name_their_shard() {
        for shard in 0..16 {
            let subject = Subject::random(shard);
            let text = subject.to_string();
            assert_eq!(Subject::parse(&text), Some(subject));
            assert_eq!(subject.shard(), shard);
            assert_eq!(text.as_bytes()[14], b'4', "{text}");
        }
        for bad in ["", "x", "00000000000000000000000000000000", "{}"] {
            assert_eq!(Subject::parse(bad), None, "{bad:?}");
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
