//! A connection info that is parsed without copies.

use std::{borrow::Cow, fmt};

use sinew_plane::{Error, ProcessId};

use super::{
    CONFIRMS_FROM, HEARTBEATS_FROM, MAX_INFO_BYTES, METADATA_FROM, OFFER_VERSION, SinewOffer,
    StreamType, TcpStreamConnectionInfo,
};
use crate::token::{self, TOKEN_BYTES};

/// A parsed [`TcpStreamConnectionInfo`]. Its values are slices of the text, unless they have
/// escapes. It is parsed twice for every request and not kept.
#[derive(PartialEq, Eq)]
pub struct ParsedConnectionInfo<'a> {
    /// [`TcpStreamConnectionInfo::address`].
    pub address: Cow<'a, str>,
    /// [`TcpStreamConnectionInfo::subject`].
    pub subject: Cow<'a, str>,
    /// [`TcpStreamConnectionInfo::context`].
    pub context: Cow<'a, str>,
    /// [`TcpStreamConnectionInfo::stream_type`].
    pub stream_type: StreamType,
    /// [`TcpStreamConnectionInfo::sinew`].
    pub sinew: Option<ParsedOffer<'a>>,
}

/// A parsed [`SinewOffer`].
#[derive(Debug, PartialEq, Eq)]
pub struct ParsedOffer<'a> {
    v: u32,
    process: Option<Cow<'a, str>>,
    token: Option<Secret<'a>>,
}

/// The text of a token.
#[derive(PartialEq, Eq)]
struct Secret<'a>(Cow<'a, str>);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Debug for ParsedConnectionInfo<'_> {
    /// As that of [`TcpStreamConnectionInfo`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParsedConnectionInfo")
            .field("address", &self.address)
            .field("context", &self.context)
            .field("stream_type", &self.stream_type)
            .field("sinew", &self.sinew)
            .finish_non_exhaustive()
    }
}

impl<'a> ParsedConnectionInfo<'a> {
    /// Reads a text.
    ///
    /// # Errors
    /// As [`TcpStreamConnectionInfo::from_text`].
    pub fn read(text: &'a str) -> Result<Self, Error> {
        if text.len() <= MAX_INFO_BYTES
            && let Some(info) = read_usual(text)
        {
            return Ok(info);
        }
        TcpStreamConnectionInfo::from_json(text).map(Self::from)
    }

    pub(super) fn into_owned(self) -> TcpStreamConnectionInfo {
        let sinew = self.sinew.map(|ParsedOffer { v, process, token }| SinewOffer {
            v,
            process: process.map(Cow::into_owned),
            token: token.map(|Secret(text)| text.into_owned()),
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

impl From<TcpStreamConnectionInfo> for ParsedConnectionInfo<'_> {
    fn from(info: TcpStreamConnectionInfo) -> Self {
        let sinew = info.sinew.map(|SinewOffer { v, process, token }| ParsedOffer {
            v,
            process: process.map(Cow::Owned),
            token: token.map(|text| Secret(text.into())),
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

impl ParsedOffer<'_> {
    /// The token to show on a shared connection; `None` if the caller offers none.
    pub fn token(&self) -> Option<[u8; TOKEN_BYTES]> {
        self.token.as_ref().and_then(|Secret(text)| token::parse(text))
    }

    /// True if the caller confirms a connection of one stream.
    pub fn confirms(&self) -> bool {
        self.v >= CONFIRMS_FROM
    }

    /// True if the caller takes a message without header and body as a heartbeat.
    pub fn knows_heartbeats(&self) -> bool {
        self.v >= HEARTBEATS_FROM
    }

    /// True if the caller accepts the head and the facts of a response.
    pub fn knows_metadata(&self) -> bool {
        self.v >= METADATA_FROM
    }

    /// The process that answers; [`ProcessId::UNKNOWN`] where the caller does not say.
    pub fn process(&self) -> ProcessId {
        self.process.as_deref().and_then(ProcessId::from_hex).unwrap_or_default()
    }
}

/// Reads a text that is written as [`TcpStreamConnectionInfo::to_text`] and Dynamo write it, with
/// values that stand there as they are. Any other text is read as JSON inside JSON, each checked
/// for keys that come twice, which takes 3 us where a short pooled response takes 10.
pub(super) fn read_usual(text: &str) -> Option<ParsedConnectionInfo<'_>> {
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
    let sinew = match rest.strip_prefix(r#",\"sinew\":{\"v\":4,\"process\":\""#) {
        None => (rest == r#"}"}"#).then_some(None)?,
        Some(rest) => {
            let (process, rest) = usual_value(rest)?;
            let (token, rest) = match rest.strip_prefix(r#",\"token\":\""#) {
                Some(rest) => usual_value(rest).map(|(token, rest)| (Some(token), rest))?,
                None => (None, rest),
            };
            let token = token.map(|text| Secret(text.into()));
            let offer = ParsedOffer { v: OFFER_VERSION, process: Some(process.into()), token };
            (rest == r#"}}"}"#).then_some(Some(offer))?
        }
    };
    let [address, subject, context] = [address, subject, context].map(Cow::Borrowed);
    Some(ParsedConnectionInfo { address, subject, context, stream_type, sinew })
}

/// A value and what follows its closing quote. `None` when it is written in another way than it
/// reads, or ends otherwise.
fn usual_value(text: &str) -> Option<(&str, &str)> {
    let (value, rest) = text.split_once('\\')?;
    let is_usual = value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    Some((value, rest.strip_prefix('"').filter(|_| is_usual)?))
}
