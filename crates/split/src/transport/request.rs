//! Encodes a request: the control message, the body after it, and the headers beside both.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde_json::value::RawValue;
use sinew_codec::PayloadFormat;
use sinew_dynamo_wire::{
    PayloadCodec, RequestControlMessage, RequestType, ResponseType, SINEW_CONTROL_VERSION,
    SinewControl, context_text,
};
use sinew_plane::{Code, Error, Headers, OutgoingRequest, header};

use crate::peer_codec::{PeerCodec, PeerHeaders, PeerItems};

/// A request before it is known where its response is to go.
pub(super) struct RequestDraft {
    /// How items are read; `None` when they come bare.
    pub(super) items: Option<PeerItems>,
    codec: PayloadCodec,
    metadata: BTreeMap<String, String>,
    sinew: Option<SinewControl>,
    beside: Headers,
}

impl RequestDraft {
    /// For a worker of Sinew.
    pub(super) fn to_sinew(request: &OutgoingRequest) -> Self {
        // Rounded up: a deadline that is near must not read as passed.
        let whole = |left: std::time::Duration| {
            u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
        };
        let sinew = SinewControl {
            v: SINEW_CONTROL_VERSION,
            deadline_ms: request.context.remaining().map(whole),
            attempt: request.attempt,
            instance: Some(request.instance.to_string()),
            headers: request.headers.clone(),
        };
        let format = PayloadFormat::from_content_type(request.headers.get(header::CONTENT_TYPE));
        Self {
            items: None,
            codec: format.ok().and_then(PayloadCodec::of).unwrap_or_default(),
            metadata: BTreeMap::new(),
            sinew: Some(sinew),
            beside: Headers::new(),
        }
    }

    /// For a worker that `codec` speaks with.
    pub(super) fn to_peer(
        codec: &Arc<dyn PeerCodec>,
        request: &OutgoingRequest,
    ) -> Result<Self, Error> {
        let PeerHeaders { format, metadata, beside } = codec.write_headers(request)?;
        Ok(Self {
            items: Some(PeerItems { codec: Arc::clone(codec), format }),
            codec: format.codec,
            metadata,
            sinew: None,
            beside,
        })
    }

    /// The payload and the headers, once it is known where the response is to go.
    pub(super) fn encode(
        self,
        connection_info: String,
        input: Option<&str>,
        request: OutgoingRequest,
        max_bytes: usize,
    ) -> Result<(Bytes, Headers), Error> {
        let connection_info = raw(connection_info)?;
        let request_stream_connection_info = input.map(|info| raw(info.to_owned())).transpose()?;
        let request_type =
            if input.is_some() { RequestType::ManyIn } else { RequestType::SingleIn };
        let control = RequestControlMessage {
            id: context_text(request.context.id()),
            request_type,
            response_type: ResponseType::ManyOut,
            payload_codec: self.codec,
            connection_info,
            metadata: self.metadata,
            frontend_send_ts_ns: None,
            request_stream_connection_info,
            sinew: self.sinew,
        };
        Ok((control.encode(Some(request.body), max_bytes)?, self.beside))
    }
}

fn raw(connection_info: String) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(connection_info).map_err(|error| {
        let message = format!("a connection info of the response plane is no JSON: {error}");
        Error::new(Code::NoTransport, message)
    })
}
