//! The codec for peers that are not Sinew processes.
//!
//! Between two Sinew processes items are not wrapped, and the control message has an object that
//! other peers ignore. A [`PeerCodec`] has the format that other peers need. It is called for each
//! request and each item of such a peer, and never between two Sinew processes.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use sinew_dynamo_wire::PayloadCodec;
use sinew_plane::{Context, Error, Headers, OutgoingRequest, ResponseSink, TransportId};

use crate::LateFrames;

/// How the peers of another system wrap items, write headers and report errors.
///
/// Its methods are called for each request and item, under locks of a response: they must not
/// block, and may call only their arguments.
pub trait PeerCodec: fmt::Debug + Send + Sync {
    /// Makes the headers, the metadata and the item format of a request to a worker of the other
    /// system.
    ///
    /// # Errors
    /// The request cannot be sent to a worker of the other system. No handler ran.
    fn write_headers(&self, request: &OutgoingRequest) -> Result<PeerHeaders, Error>;

    /// Decodes a frame of a response from a worker of the other system.
    ///
    /// # Errors
    /// The frame breaks the rules, which ends the response.
    fn read_item(&self, format: ItemFormat, frame: &Bytes) -> Result<Frame, Error>;

    /// The name of the transport for a request that a caller of the other system sent over `plane`.
    fn transport(&self, plane: &TransportId) -> TransportId;

    /// The headers of a request from a caller of the other system: those that arrived `beside` it,
    /// its content type, and those of its metadata that are valid headers.
    fn read_headers(
        &self,
        beside: &Headers,
        codec: PayloadCodec,
        metadata: &BTreeMap<String, String>,
    ) -> Headers;

    /// Makes the sink for the handler of a request from a caller of the other system. The sink wraps
    /// the items that the handler sends, and writes errors in the form that the caller reads.
    fn item_sink(&self, response: PeerResponse) -> ResponseSink;
}

/// The form of the items of one response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemFormat {
    /// The format of the body and of each item.
    pub codec: PayloadCodec,
    /// True if items have the peer's own annotations already; they are then not wrapped again.
    pub annotated: bool,
}

/// What a request carries in addition to its body.
#[derive(Debug, Clone)]
pub struct PeerHeaders {
    /// The format of its body and of the items of its response.
    pub format: ItemFormat,
    /// The metadata in the control message.
    pub metadata: BTreeMap<String, String>,
    /// The headers beside the payload.
    pub beside: Headers,
}

/// A frame from a peer.
#[derive(Debug)]
pub struct Frame {
    /// Its content.
    pub content: Content,
    /// True for the last frame of a complete response.
    pub is_final: bool,
}

/// The content of a frame.
#[derive(Debug)]
pub enum Content {
    /// Nothing for the caller: the end, or only annotations.
    Nothing,
    /// An item.
    Item(Bytes),
    /// The worker failed.
    Failed(Error),
}

/// A response that is to be sent to a peer.
#[derive(Debug)]
pub struct PeerResponse {
    /// The sink for finished frames.
    pub sink: ResponseSink,
    /// The form of its items.
    pub format: ItemFormat,
    /// The context of the request.
    pub context: Context,
    /// Largest item, in bytes, without its wrapping.
    pub max_item_bytes: usize,
    /// Sends the last frames for which there is no credit at the end.
    pub late: LateFrames,
}

/// How the items of one response are wrapped, and who knows about it.
#[derive(Debug, Clone)]
pub(crate) struct PeerItems {
    pub(crate) codec: Arc<dyn PeerCodec>,
    pub(crate) format: ItemFormat,
}

impl PeerItems {
    pub(crate) fn read(&self, frame: &Bytes) -> Result<Frame, Error> {
        self.codec.read_item(self.format, frame)
    }
}
