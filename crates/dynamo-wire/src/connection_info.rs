//! The connection info in a request, which tells a worker where to dial.

mod parsed;

use std::fmt;

use serde::{Deserialize, Serialize};
use sinew_codec::decode_control;
use sinew_plane::{Code, Error, Executed, ProcessId, StreamId};
use uuid::Uuid;

use crate::{
    SUBJECT_TEXT_BYTES, Subject,
    subject::write_uuid,
    token::{self, TOKEN_BYTES, TOKEN_TEXT_BYTES},
};

pub use self::parsed::{ParsedConnectionInfo, ParsedOffer};

/// The name of this plane in a [`ConnectionInfo`].
pub const TCP_SERVER: &str = "tcp_server";

/// Longest connection info, in bytes. An address, two ids and some keys of later versions.
pub const MAX_INFO_BYTES: usize = 8 * 1024;

/// Version of what this side offers.
const OFFER_VERSION: u32 = 4;

/// From this version on a caller confirms a connection of one stream to a worker that asks for it.
const CONFIRMS_FROM: u32 = 2;

/// From this version on an item of no bytes has a header, and without one it is a heartbeat.
const HEARTBEATS_FROM: u32 = 3;

/// From this version on a caller takes the head and the facts of a response.
const METADATA_FROM: u32 = 4;

/// The connection info of a stream: the name of the plane, and a text that only this plane reads.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// The plane: `tcp_server`.
    pub transport: String,
    /// JSON of a [`TcpStreamConnectionInfo`].
    pub info: String,
}

/// The direction of the items of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamType {
    /// From the caller to the worker.
    Request,
    /// From the worker to the caller.
    Response,
}

/// The address to dial and the stream that is expected there. Sinew and Dynamo 1.6 skip unknown
/// keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpStreamConnectionInfo {
    /// `HOST:PORT`, with an IPv6 address in brackets.
    pub address: String,
    /// The random id of the stream, as a UUID. It authorises the worker to deliver the stream.
    pub subject: String,
    /// The request's id.
    pub context: String,
    /// The direction of the items.
    pub stream_type: StreamType,
    /// The additional keys of a Sinew caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinew: Option<SinewOffer>,
}

/// The keys that a Sinew caller adds to Dynamo's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinewOffer {
    /// Version of the offer.
    pub v: u32,
    /// The process that answers at the address, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// If set, the worker may use shared connections, and shows this token in the hello of each, in
    /// hexadecimal. The caller opens streams only on connections that show it. It is a secret of
    /// the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl SinewOffer {
    /// Makes an offer: the process that answers and, with a token, shared connections.
    pub fn new(process: ProcessId, token: Option<&[u8; TOKEN_BYTES]>) -> Self {
        let hex = |token: &[u8; TOKEN_BYTES]| {
            let mut text = String::new();
            token::write(token, &mut text);
            text
        };
        Self { v: OFFER_VERSION, process: Some(process.to_string()), token: token.map(hex) }
    }
}

impl fmt::Debug for SinewOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinewOffer")
            .field("v", &self.v)
            .field("process", &self.process)
            .field("token", &self.token.as_ref().map(|_| ".."))
            .finish()
    }
}

impl fmt::Debug for ConnectionInfo {
    /// Without the info, which holds the subject and the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfo").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl fmt::Debug for TcpStreamConnectionInfo {
    /// Without the subject: it is all that a worker of Dynamo has to show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStreamConnectionInfo")
            .field("address", &self.address)
            .field("context", &self.context)
            .field("stream_type", &self.stream_type)
            .field("sinew", &self.sinew)
            .finish_non_exhaustive()
    }
}

impl TcpStreamConnectionInfo {
    /// The text form, which a request carries.
    pub fn to_text(&self) -> String {
        // Structs of strings: JSON can hold all of them.
        let info = serde_json::to_string(self).unwrap_or_default();
        let outer = ConnectionInfo { transport: TCP_SERVER.to_owned(), info };
        serde_json::to_string(&outer).unwrap_or_default()
    }

    /// Reads what [`to_text`](Self::to_text) writes, also when a Dynamo caller wrote it.
    ///
    /// # Errors
    /// [`Code::InvalidPayload`]: the text is over 8 KiB, is not JSON of this form, or is for
    /// another plane. No handler ran.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        ParsedConnectionInfo::read(text).map(ParsedConnectionInfo::into_owned)
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

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    decode_control(text.as_bytes(), MAX_INFO_BYTES).map_err(|cause| {
        let message = format!("the connection info of the response cannot be read: {cause}");
        Error::new(Code::InvalidPayload, message).with_executed(Executed::No).with_source(cause)
    })
}

/// A template for connection infos that differ only in subject, request and token.
pub struct ConnectionInfoTemplate {
    head: Box<str>,
    middle: Box<str>,
    tail: Box<str>,
    /// What follows the token, where there is one.
    end: Option<Box<str>>,
}

impl ConnectionInfoTemplate {
    /// Makes a template from `info`, without its subject, context and token. The template has a
    /// token if `info` has one.
    pub fn new(mut info: TcpStreamConnectionInfo) -> Self {
        let (subject, context, token) = ("SUBJECT", "CONTEXT", "TOKEN");
        (info.subject, info.context) = (subject.into(), context.into());
        let marked = info.sinew.as_mut().and_then(|offer| offer.token.as_mut());
        let has_token = marked.map(|text| *text = token.to_owned()).is_some();
        let text = info.to_text();
        // The last ones: an address, which may be any text, stands before all of them.
        let (text, end) = match text.rsplit_once(token).filter(|_| has_token) {
            Some((text, end)) => (text, Some(end.into())),
            None => (&*text, None),
        };
        let (rest, tail) = text.rsplit_once(context).unwrap_or_default();
        let (head, middle) = rest.rsplit_once(subject).unwrap_or_default();
        Self { head: head.into(), middle: middle.into(), tail: tail.into(), end }
    }

    /// Fills the template. If the template has a token, one must be given; otherwise it is ignored.
    pub fn fill(
        &self,
        subject: Subject,
        request: StreamId,
        token: Option<&[u8; TOKEN_BYTES]>,
    ) -> String {
        let Self { head, middle, tail, end } = self;
        let ids = 2 * SUBJECT_TEXT_BYTES;
        let secret = end.as_ref().map_or(0, |end| end.len() + TOKEN_TEXT_BYTES);
        let room = head.len() + middle.len() + tail.len() + ids + secret;
        let mut text = String::with_capacity(room);
        text.push_str(head);
        subject.write(&mut text);
        text.push_str(middle);
        write_uuid(request.0, &mut text);
        text.push_str(tail);
        if let Some(end) = end {
            if let Some(token) = token {
                token::write(token, &mut text);
            }
            text.push_str(end);
        }
        text
    }
}

/// The text of a request's id in a connection info: a UUID in lower case.
pub fn context_text(id: StreamId) -> String {
    Uuid::from_u128(id.0).hyphenated().to_string()
}

/// Reads a request's id that is a UUID.
pub fn context_id(text: &str) -> Option<StreamId> {
    Uuid::try_parse(text).ok().map(|it| StreamId(it.as_u128()))
}

impl fmt::Debug for ConnectionInfoTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfoTemplate").field("head", &self.head).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
