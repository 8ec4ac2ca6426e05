//! What is sent: the control message, the body behind it and the headers beside both.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use sinew_codec::PayloadFormat;
use sinew_dynamo_wire::{
    PayloadCodec, RequestControlMessage, RequestType, ResponseType, SINEW_CONTROL_VERSION,
    SinewControl, context_text,
};
use sinew_plane::{Code, Error, Executed, Headers, OutgoingRequest, header};

use crate::{ITEMS_ANNOTATED, ITEMS_HEADER, ItemCodec, SplitScheme, headers};

/// A request before it is known where its response is to go.
pub(super) struct Letter {
    /// How items are unwrapped; `None` when they come bare.
    pub(super) items: Option<ItemCodec>,
    codec: PayloadCodec,
    metadata: BTreeMap<String, String>,
    sinew: Option<SinewControl>,
    beside: Headers,
}

impl Letter {
    pub(super) fn new(scheme: SplitScheme, request: &OutgoingRequest) -> Result<Self, Error> {
        if scheme.is_bare() { Ok(Self::to_sinew(request)) } else { Self::to_dynamo(request) }
    }

    fn to_sinew(request: &OutgoingRequest) -> Self {
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
        Self {
            items: None,
            codec: format_of(request).ok().and_then(PayloadCodec::of).unwrap_or_default(),
            metadata: BTreeMap::new(),
            sinew: Some(sinew),
            beside: Headers::new(),
        }
    }

    fn to_dynamo(request: &OutgoingRequest) -> Result<Self, Error> {
        let format = format_of(request)?;
        let codec = PayloadCodec::of(format).ok_or_else(|| {
            let message = format!(
                "a Dynamo worker reads json or msgpack and the request is {format}: choose one of \
                 the two for it"
            );
            Error::new(Code::NoTransport, message)
        })?;
        let annotated = request.headers.get(ITEMS_HEADER) == Some(ITEMS_ANNOTATED);
        Ok(Self {
            items: Some(ItemCodec::new(codec).annotated(annotated)),
            codec,
            metadata: headers::metadata(&request.headers),
            sinew: None,
            beside: headers::beside_request(request)?,
        })
    }

    /// The payload and the headers, once it is known where the response is to go.
    pub(super) fn seal(
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

fn format_of(request: &OutgoingRequest) -> Result<PayloadFormat, Error> {
    PayloadFormat::from_content_type(request.headers.get(header::CONTENT_TYPE)).map_err(|error| {
        let message = format!("the request's content-type: {error}");
        Error::new(Code::NoTransport, message).with_executed(Executed::No)
    })
}
