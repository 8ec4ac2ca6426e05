//! A request as it was received on a plane: its target, its content, and its caller.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::value::RawValue;
use sinew_codec::checksum_of;
use sinew_dynamo_wire::{RequestControlMessage, RequestType, SinewControl, context_id};
use sinew_plane::{
    Code, Context, Error, Executed, Headers, InstanceId, PeerFacts, PlaneRequest, StreamId,
    TransportId,
};

use crate::{ItemFormat, PeerCodec, SplitScheme, peer_codec::PeerItems};

/// A request that can be served, or told why not.
pub(super) struct ReceivedRequest {
    /// What is called, as the peer spelled it.
    pub(super) endpoint: String,
    pub(super) instance: InstanceId,
    pub(super) body: Bytes,
    pub(super) context: Context,
    pub(super) transport: TransportId,
    pub(super) attempt: u8,
    /// Where to dial back.
    pub(super) connection_info: String,
    /// Where it came from, whose origin bounds where that may be.
    pub(super) peer: PeerFacts,
    /// How items are wrapped, for a caller that is not Sinew's; `None` when they go bare.
    pub(super) items: Option<PeerItems>,
    /// Where to fetch the items of the request, when it is a stream.
    pub(super) request_stream: Option<String>,
    /// It has a shape that its endpoint does not take.
    pub(super) fault: Option<Error>,
}

/// Whom a request is for, and what is known of that.
pub(super) struct Destination {
    pub(super) endpoint: String,
    pub(super) instance: InstanceId,
    /// Its items are annotated already.
    pub(super) is_annotated: bool,
    /// Its requests are streams.
    pub(super) takes_stream: bool,
}

impl ReceivedRequest {
    /// Reads a request. `peer` speaks with callers that are not Sinew's, where somebody does.
    ///
    /// # Errors
    /// It is malformed, or nobody here speaks with its caller. Nothing ran.
    pub(super) fn read(
        request: PlaneRequest<'_>,
        destination: Destination,
        peer: Option<&Arc<dyn PeerCodec>>,
    ) -> Result<Self, Error> {
        let PlaneRequest { headers: beside, payload, transport: plane, peer: from, .. } = request;
        let (mut control, body) = RequestControlMessage::decode(payload)?;
        let fault = shape_fault(&control, body.is_some(), destination.takes_stream);
        let RequestHead { instance, context, attempt, transport, items } = match control
            .sinew
            .take()
        {
            Some(sinew) => RequestHead::of_sinew(sinew, &control.id, destination.instance, plane)?,
            None => RequestHead::of_peer(peer, &control, &beside, &destination, plane)?,
        };
        let text = |info: Box<RawValue>| String::from(Box::<str>::from(info));
        Ok(Self {
            endpoint: destination.endpoint,
            instance,
            body: body.unwrap_or_default(),
            context,
            transport,
            attempt,
            connection_info: text(control.connection_info),
            peer: from.clone(),
            items,
            request_stream: control.request_stream_connection_info.map(text),
            fault,
        })
    }
}

/// What stands beside the body, which each kind of caller says in its own way.
struct RequestHead {
    instance: InstanceId,
    context: Context,
    attempt: u8,
    transport: TransportId,
    items: Option<PeerItems>,
}

impl RequestHead {
    fn of_sinew(
        sinew: SinewControl,
        id: &str,
        instance: InstanceId,
        plane: &TransportId,
    ) -> Result<Self, Error> {
        let instance = match &sinew.instance {
            Some(hex) => InstanceId::from_hex(hex).ok_or_else(|| {
                let error = Error::new(Code::InvalidPayload, "malformed request: its instance");
                error.with_executed(Executed::No)
            })?,
            None => instance,
        };
        let mut context = Context::builder().id(stream_id(id)).headers(sinew.headers);
        if let Some(left) = sinew.deadline_ms {
            context = context.timeout(Duration::from_millis(left));
        }
        Ok(Self {
            instance,
            context: context.build(),
            attempt: sinew.attempt,
            transport: SplitScheme::of_plane(plane),
            items: None,
        })
    }

    fn of_peer(
        peer: Option<&Arc<dyn PeerCodec>>,
        control: &RequestControlMessage,
        beside: &Headers,
        destination: &Destination,
        plane: &TransportId,
    ) -> Result<Self, Error> {
        let peer = peer.ok_or_else(|| {
            let message = "this worker speaks with callers of Sinew alone";
            Error::new(Code::NoTransport, message).with_executed(Executed::No)
        })?;
        let codec = control.payload_codec;
        let headers = peer.read_headers(beside, codec, &control.metadata);
        let format = ItemFormat { codec, annotated: destination.is_annotated };
        Ok(Self {
            instance: destination.instance,
            context: Context::builder().id(stream_id(&control.id)).headers(headers).build(),
            attempt: 0,
            transport: peer.transport(plane),
            items: Some(PeerItems { codec: Arc::clone(peer), format }),
        })
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
