//! The codec of split exchanges for Dynamo peers.

use std::collections::BTreeMap;

use bytes::Bytes;
use sinew_codec::PayloadFormat;
use sinew_plane::{
    Code, Error, Executed, Headers, OutgoingRequest, ResponseSink, TransportId, header,
};
use sinew_split::{Frame, ItemFormat, PeerCodec, PeerHeaders, PeerResponse};

use crate::{
    DynamoScheme, ITEMS_ANNOTATED, ITEMS_HEADER, ItemCodec, PayloadCodec, headers,
    item_sink::ItemSink,
};

/// The codec for Dynamo 1.6 peers. [`DynamoScheme::split_transport`] uses it to call Dynamo
/// workers. Set it as [`SplitServerConfig::peer`](sinew_split::SplitServerConfig::peer) to serve
/// Dynamo callers.
#[derive(Debug, Clone, Copy, Default)]
pub struct DynamoCodec;

impl PeerCodec for DynamoCodec {
    fn write_headers(&self, request: &OutgoingRequest) -> Result<PeerHeaders, Error> {
        let format = format_of(request)?;
        let codec = PayloadCodec::of(format).ok_or_else(|| {
            let message = format!(
                "a Dynamo worker reads json or msgpack and the request is {format}: choose one of \
                 the two for it"
            );
            Error::new(Code::NoTransport, message)
        })?;
        let annotated = request.headers.get(ITEMS_HEADER) == Some(ITEMS_ANNOTATED);
        Ok(PeerHeaders {
            format: ItemFormat { codec, annotated },
            metadata: headers::metadata(&request.headers),
            beside: headers::beside_request(request)?,
        })
    }

    fn read_item(&self, format: ItemFormat, frame: &Bytes) -> Result<Frame, Error> {
        ItemCodec::of(format).unwrap(frame)
    }

    fn transport(&self, plane: &TransportId) -> TransportId {
        TransportId::from_static(DynamoScheme::of_plane(plane).as_str())
    }

    fn read_headers(
        &self,
        beside: &Headers,
        codec: PayloadCodec,
        metadata: &BTreeMap<String, String>,
    ) -> Headers {
        headers::of_dynamo(beside, codec, metadata)
    }

    fn item_sink(&self, response: PeerResponse) -> ResponseSink {
        ItemSink::sink(response)
    }
}

fn format_of(request: &OutgoingRequest) -> Result<PayloadFormat, Error> {
    PayloadFormat::from_content_type(request.headers.get(header::CONTENT_TYPE)).map_err(|error| {
        let message = format!("the request's content-type: {error}");
        Error::new(Code::NoTransport, message).with_executed(Executed::No)
    })
}
