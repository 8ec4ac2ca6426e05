//! What is different towards a peer that is not Sinew's.
//!
//! Between two ends of Sinew items travel bare, and the control message has an object that no other
//! peer has. What other peers want is known to a [`PeerCodec`] alone. It is asked about each request
//! and about each item, and never where both ends are Sinew's.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use sinew_dynamo_wire::PayloadCodec;
use sinew_plane::{Context, Error, Headers, OutgoingRequest, ResponseSink, TransportId};

use crate::LateFrames;

/// How the peers of another system wrap items, write headers and tell of errors.
///
/// Its methods run on the path of requests and items, under locks of a response: they must not
/// block, and call nothing but what they are given.
pub trait PeerCodec: fmt::Debug + Send + Sync {
    /// What a request to such a worker carries beside its body.
    ///
    /// # Errors
    /// Such a worker cannot be sent the request. Nothing ran.
    fn write_headers(&self, request: &OutgoingRequest) -> Result<PeerHeaders, Error>;

    /// Takes a frame of such a worker's response apart.
    ///
    /// # Errors
    /// The frame breaks the rules, which ends the response.
    fn read_item(&self, format: ItemFormat, frame: &Bytes) -> Result<Frame, Error>;

    /// The name of the transport for a request of such a caller that came over `plane`.
    fn transport(&self, plane: &TransportId) -> TransportId;

    /// The headers of a request from such a caller: those that came `beside` it, its content type,
    /// and what of its metadata can be one.
    fn read_headers(
        &self,
        beside: &Headers,
        codec: PayloadCodec,
        metadata: &BTreeMap<String, String>,
    ) -> Headers;

    /// The sink for the handler of such a caller's request. It wraps what the handler sends, and
    /// puts errors where such a caller looks for them.
    fn item_sink(&self, response: PeerResponse) -> ResponseSink;
}

/// How the items of one response are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemFormat {
    /// The format of the body and of each item.
    pub codec: PayloadCodec,
    /// Items have the peer's own annotations already, and keep them.
    pub annotated: bool,
}

/// What a request carries beside its body.
#[derive(Debug, Clone)]
pub struct PeerHeaders {
    /// The format of its body, and how the items of its response are to be read.
    pub format: ItemFormat,
    /// What stands in the control message.
    pub metadata: BTreeMap<String, String>,
    /// What stands beside the payload.
    pub beside: Headers,
}

/// A frame from a peer.
#[derive(Debug)]
pub struct Frame {
    /// What it carries.
    pub content: Content,
    /// No frame follows, and every item was sent.
    pub is_final: bool,
}

/// What a frame carries.
#[derive(Debug)]
pub enum Content {
    /// Nothing for the caller: the end, or annotations alone.
    Nothing,
    /// An item.
    Item(Bytes),
    /// The worker failed.
    Failed(Error),
}

/// A response that is to be sent to a peer.
#[derive(Debug)]
pub struct PeerResponse {
    /// Takes frames as they are.
    pub sink: ResponseSink,
    /// How its items are to be written.
    pub format: ItemFormat,
    /// That of the request.
    pub context: Context,
    /// Largest item, in bytes, without its wrapping.
    pub max_item_bytes: usize,
    /// For frames that find no room at the end.
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
