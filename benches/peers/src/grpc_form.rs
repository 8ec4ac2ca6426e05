//! What the gRPC peers send as messages: bytes as they are, or a struct in protobuf.

use bytes::{Buf, BufMut, Bytes};
use sinew_benches::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_prost::ProstCodec;

/// How bodies become messages and come back.
pub(crate) trait Form: Send + Sync + 'static {
    /// What a method takes and returns.
    type Message: Send + Sync + 'static;
    /// How it is written.
    type Codec: Codec<Encode = Self::Message, Decode = Self::Message> + Default + Send + 'static;

    /// A message with this body.
    fn wrap(body: &Bytes) -> Self::Message;

    /// The body of a message.
    fn unwrap(message: Self::Message) -> Bytes;
}

/// Messages that are bytes, as they are.
pub(crate) struct Plain;

impl Form for Plain {
    type Message = Bytes;
    type Codec = BytesCodec;

    fn wrap(body: &Bytes) -> Bytes {
        body.clone()
    }

    fn unwrap(message: Bytes) -> Bytes {
        message
    }
}

/// The struct that the typed peers send, in protobuf.
pub(crate) struct Prost;

/// [`Message`] as a build script would generate it from a protobuf file.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ProstMessage {
    #[prost(uint32, tag = "1")]
    pub(crate) index: u32,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
    #[prost(bool, tag = "3")]
    pub(crate) last: bool,
}

impl Form for Prost {
    type Message = ProstMessage;
    type Codec = ProstCodec<ProstMessage, ProstMessage>;

    fn wrap(body: &Bytes) -> ProstMessage {
        // The same copy into a text that the other typed peers make.
        let Message { index, text, last } = Message::new(0, body, false);
        ProstMessage { index, text, last }
    }

    fn unwrap(message: ProstMessage) -> Bytes {
        let ProstMessage { index, text, last } = message;
        Message { index, text, last }.into_body()
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
