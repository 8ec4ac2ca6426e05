//! The control message of a request: its id, its format, and where the response goes.

use std::{collections::BTreeMap, fmt};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sinew_codec::{
    ChecksumMode, DEFAULT_MAX_MESSAGE_SIZE, PayloadFormat, TWO_PART_PREFIX_BYTES, TwoPartCodec,
    TwoPartMessageType, decode_control,
};
use sinew_plane::{Code, Error, Executed, Headers};

use crate::header_list;

/// Longest control message in bytes. Dynamo checks it when it sends; Sinew checks it at both ends.
pub const CONTROL_MESSAGE_MAX_BYTES: usize = 128 * 1024;

/// Room for the keys of a control message and what is of one length, so that writing it grows no
/// buffer: all of them together have some 320 bytes.
const USUAL_BYTES: usize = 384;

/// The form of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestType {
    /// One request, after the control message.
    SingleIn,
    /// A stream of requests, on a connection of its own.
    ManyIn,
}

/// The form of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseType {
    /// One item.
    SingleOut,
    /// A stream of items, which every peer asks for in practice.
    ManyOut,
}

/// The format of the request and of the items of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadCodec {
    /// JSON, the format of a peer that names none.
    #[default]
    Json,
    /// MessagePack, structs as maps.
    Msgpack,
}

impl PayloadCodec {
    /// The codec of a format; `None` for a format that Dynamo does not support.
    pub const fn of(format: PayloadFormat) -> Option<Self> {
        match format {
            PayloadFormat::Json => Some(Self::Json),
            PayloadFormat::Msgpack => Some(Self::Msgpack),
            _ => None,
        }
    }

    /// The format of the codec.
    pub const fn format(self) -> PayloadFormat {
        match self {
            Self::Json => PayloadFormat::Json,
            Self::Msgpack => PayloadFormat::Msgpack,
        }
    }
}

/// The fields that only Sinew peers send. If it is present, items are not wrapped. Dynamo ignores
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinewControl {
    /// Version of this object: 1.
    pub v: u32,
    /// Time left until the deadline when the request was sent, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The number of the attempt; 0 or absent for the first.
    #[serde(default, skip_serializing_if = "is_first")]
    pub attempt: u8,
    /// The instance that is called, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The request's headers as pairs, in order, including the content type of body and items.
    #[serde(default, skip_serializing_if = "Headers::is_empty", with = "header_list")]
    pub headers: Headers,
}

/// The version of [`SinewControl`] that this build writes and understands.
pub const SINEW_CONTROL_VERSION: u32 = 1;

// serde hands out references.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_first(attempt: &u8) -> bool {
    *attempt == 0
}

/// The JSON in the header part of a request, `RequestControlMessage` of Dynamo 1.6.
///
/// Connection infos are kept as the JSON text that the response plane writes and reads.
#[derive(Clone, Serialize, Deserialize)]
pub struct RequestControlMessage {
    /// The request's id.
    pub id: String,
    /// The form of the request.
    pub request_type: RequestType,
    /// The form of the response.
    pub response_type: ResponseType,
    /// The format of body and items.
    #[serde(default)]
    pub payload_codec: PayloadCodec,
    /// The connection info of the response.
    pub connection_info: Box<RawValue>,
    /// Further metadata of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// An older field for the time of sending; read, never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontend_send_ts_ns: Option<u64>,
    /// The connection info of the request stream, for [`RequestType::ManyIn`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_stream_connection_info: Option<Box<RawValue>>,
    /// The fields that only Sinew peers send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinew: Option<SinewControl>,
}

impl fmt::Debug for RequestControlMessage {
    /// Without the connection infos, which hold what a worker has to show, and the metadata.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestControlMessage")
            .field("id", &self.id)
            .field("request_type", &self.request_type)
            .field("response_type", &self.response_type)
            .field("payload_codec", &self.payload_codec)
            .field("sinew", &self.sinew)
            .finish_non_exhaustive()
    }
}

impl RequestControlMessage {
    /// Encodes the payload of a request: this message, then the body. The body is copied once,
    /// because a request plane sends one buffer.
    ///
    /// # Errors
    /// [`Code::TooLarge`] if the message is over [`CONTROL_MESSAGE_MAX_BYTES`] or the whole is over
    /// `max_bytes`.
    pub fn encode(&self, body: Option<Bytes>, max_bytes: usize) -> Result<Bytes, Error> {
        let body = body.unwrap_or_default();
        let room = TWO_PART_PREFIX_BYTES + USUAL_BYTES + self.variable_bytes() + body.len();
        let mut payload = BytesMut::with_capacity(room);
        payload.put_bytes(0, TWO_PART_PREFIX_BYTES);
        let mut header = payload.writer();
        serde_json::to_writer(&mut header, self).map_err(|error| {
            Error::new(Code::InvalidPayload, format!("the control message: {error}"))
        })?;
        let mut payload = header.into_inner();
        let header_len = payload.len() - TWO_PART_PREFIX_BYTES;
        if header_len > CONTROL_MESSAGE_MAX_BYTES {
            let message = format!(
                "a control message of {header_len} bytes is over the limit of \
                 {CONTROL_MESSAGE_MAX_BYTES}: send less in the request's headers"
            );
            return Err(Error::new(Code::TooLarge, message));
        }
        // Release builds of Dynamo write no checksum either.
        let prefix = codec(max_bytes)
            .with_checksum(ChecksumMode::Off)
            .encode_prefix(&payload[TWO_PART_PREFIX_BYTES..], &body)
            .map_err(|error| {
                Error::new(Code::TooLarge, format!("the request: {error}")).with_source(error)
            })?;
        payload[..TWO_PART_PREFIX_BYTES].copy_from_slice(&prefix);
        payload.put_slice(&body);
        Ok(payload.freeze())
    }

    /// About what of the message has no fixed length.
    fn variable_bytes(&self) -> usize {
        let infos = [Some(&self.connection_info), self.request_stream_connection_info.as_ref()];
        let infos: usize = infos.into_iter().flatten().map(|info| info.get().len()).sum();
        let metadata: usize =
            self.metadata.iter().map(|(name, it)| name.len() + it.len() + 6).sum();
        let headers = self.sinew.as_ref().map_or(0, |it| it.headers.as_block().len() * 2);
        self.id.len() + infos + metadata + headers
    }

    /// Decodes the payload of a request. The body is a slice of it; `None` if there is none.
    ///
    /// # Errors
    /// [`Code::InvalidPayload`]; no handler ran.
    pub fn decode(payload: Bytes) -> Result<(Self, Option<Bytes>), Error> {
        let fault = |reason: String| {
            Error::new(Code::InvalidPayload, format!("malformed request: {reason}"))
                .with_executed(Executed::No)
        };
        // The plane that brought it has bounded it already.
        let max_bytes = payload.len().max(DEFAULT_MAX_MESSAGE_SIZE);
        let message =
            codec(max_bytes).decode_message(payload).map_err(|error| fault(error.to_string()))?;
        let (header, body) = match message.into_message_type() {
            TwoPartMessageType::HeaderAndData(header, body) => (header, Some(body)),
            TwoPartMessageType::HeaderOnly(header) => (header, None),
            _ => return Err(fault("it has no control message".to_owned())),
        };
        let control = decode_control(&header, CONTROL_MESSAGE_MAX_BYTES)
            .map_err(|error| fault(format!("the control message: {error}")))?;
        Ok((control, body))
    }
}

fn codec(max_bytes: usize) -> TwoPartCodec {
    TwoPartCodec::new(max_bytes).with_max_header_size(CONTROL_MESSAGE_MAX_BYTES)
}

#[cfg(test)]
mod tests;
