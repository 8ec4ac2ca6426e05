//! A request as it was taken off a plane: who is meant, what is asked, and by whom.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use sinew_codec::checksum_of;
use sinew_dynamo_wire::{RequestControlMessage, RequestType, context_id};
use sinew_plane::{Code, Context, Error, Executed, InstanceId, Origin, PlaneRequest, StreamId};

use crate::{ItemCodec, SplitScheme, headers};

/// The name of the plane that goes over a broker.
const NATS: &str = "nats";

/// A request that can be served, or told why not.
pub(super) struct Arrival {
    /// What is called, as the peer spelled it.
    pub(super) endpoint: String,
    pub(super) instance: InstanceId,
    pub(super) body: Bytes,
    pub(super) context: Context,
    pub(super) scheme: SplitScheme,
    pub(super) attempt: u8,
    /// Where to dial back.
    pub(super) connection_info: String,
    /// Where it came from, which bounds where that may be.
    pub(super) origin: Origin,
    /// How items are wrapped; `None` when they go bare.
    pub(super) items: Option<ItemCodec>,
    /// Where to fetch the items of the request, when it is a stream.
    pub(super) request_stream: Option<String>,
    /// It has a shape that its endpoint does not take.
    pub(super) fault: Option<Error>,
}

impl Arrival {
    /// Reads a request for an instance.
    pub(super) fn read(
        request: PlaneRequest<'_>,
        endpoint: String,
        instance: InstanceId,
        is_annotated: bool,
        takes_stream: bool,
    ) -> Result<Self, Error> {
        let (over_nats, origin) = (request.transport.as_str() == NATS, request.origin);
        let (control, body) = RequestControlMessage::decode(request.payload)?;
        let fault = shape_fault(&control, body.is_some(), takes_stream);
        let scheme = SplitScheme::of_arrival(over_nats, control.sinew.is_some());
        let builder = Context::builder().id(stream_id(&control.id));
        let items = ItemCodec::new(control.payload_codec).annotated(is_annotated);
        let text = |info: Box<RawValue>| String::from(Box::<str>::from(info));
        let connection_info = text(control.connection_info);
        let request_stream = control.request_stream_connection_info.map(text);
        let body = body.unwrap_or_default();
        let arrival = |instance, context, attempt, items| Self {
            endpoint,
            instance,
            body,
            context,
            scheme,
            attempt,
            connection_info,
            origin,
            items,
            request_stream,
            fault,
        };
        let Some(sinew) = control.sinew else {
            let headers =
                headers::of_dynamo(&request.headers, control.payload_codec, &control.metadata);
            return Ok(arrival(instance, builder.headers(headers).build(), 0, Some(items)));
        };
        let meant = match &sinew.instance {
            Some(hex) => InstanceId::from_hex(hex).ok_or_else(|| {
                let error = Error::new(Code::InvalidPayload, "malformed request: its instance");
                error.with_executed(Executed::No)
            })?,
            None => instance,
        };
        let mut builder = builder.headers(sinew.headers);
        if let Some(left) = sinew.deadline_ms {
            builder = builder.timeout(Duration::from_millis(left));
        }
        Ok(arrival(meant, builder.build(), sinew.attempt, None))
    }
}

/// Why an endpoint does not take a request of this shape.
fn shape_fault(
    control: &RequestControlMessage,
    has_body: bool,
    takes_stream: bool,
) -> Option<Error> {
    let message = match (control.request_type, takes_stream) {
        (RequestType::ManyIn, false) => "this endpoint takes one request, and not a stream of them",
        (RequestType::SingleIn, true) => "this endpoint takes a stream of requests, and not one",
        (RequestType::ManyIn, true) if has_body => "the request has a body beside its stream",
        (RequestType::ManyIn, true) if control.request_stream_connection_info.is_none() => {
            "the request does not say where its stream is"
        }
        // No value has no bytes in the formats that Dynamo knows.
        (RequestType::SingleIn, false) if !has_body && control.sinew.is_none() => {
            "the request has no body beside its control message"
        }
        (RequestType::SingleIn, false) | (RequestType::ManyIn, true) => return None,
    };
    Some(Error::new(Code::InvalidPayload, message).with_executed(Executed::No))
}

/// The id of a request: the UUID that its text is, or a number that the text leads to.
fn stream_id(text: &str) -> StreamId {
    context_id(text).unwrap_or_else(|| {
        let high = checksum_of(text.as_bytes(), b"high");
        let low = checksum_of(text.as_bytes(), b"low");
        StreamId(u128::from(high) << 64 | u128::from(low))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_their_uuid_or_stable() {
        let id = stream_id("0f8fad5b-d9cb-469f-a165-70867728950e");
        assert_eq!(id, StreamId(0x0f8f_ad5b_d9cb_469f_a165_7086_7728_950e));
        let text = "chatcmpl-77";
        assert_eq!(stream_id(text), stream_id(text));
        assert_ne!(stream_id(text), stream_id("chatcmpl-78"));
        assert_ne!(stream_id(""), StreamId(0));
    }
}
