//! The request frame.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    EncodedParts,
    foreign::ForeignProtocol,
    limits::{DEFAULT_MAX_MESSAGE_SIZE, reserve_for},
    retention::Retention,
    tcp_request::TcpRequestError,
};

/// Longest path of a request frame in bytes. It keeps the first byte of a connection at 4 or
/// less, which no other protocol on the same port begins with.
pub const MAX_REQUEST_PATH_BYTES: usize = 1024;

/// Bytes to look at before the verdict on a path length, so that a peer of another protocol is
/// named. No frame is shorter.
const RECOGNISED_FROM: usize = 4;

/// Bytes of the three lengths in a frame.
const LENGTHS: usize = 2 + 2 + 4;

/// One request: its path, its headers and its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpRequestMessage {
    path: Bytes,
    headers: Bytes,
    payload: Bytes,
}

impl TcpRequestMessage {
    /// Makes a request for `path`.
    ///
    /// # Errors
    /// The path is empty, over 1,024 bytes, or holds control characters; the headers are over
    /// 65,535 bytes.
    pub fn new(
        path: impl Into<String>,
        headers: impl Into<Bytes>,
        payload: impl Into<Bytes>,
    ) -> Result<Self, TcpRequestError> {
        let (path, headers) = (Bytes::from(path.into()), headers.into());
        let message = Self { path, headers, payload: payload.into() };
        message.head().check()?;
        Ok(message)
    }

    /// The target of the request.
    pub fn path(&self) -> &str {
        // Checked when the message was made; the default is never taken.
        std::str::from_utf8(&self.path).unwrap_or_default()
    }

    /// The headers as they were received: one JSON object if the peer follows the protocol.
    pub fn headers(&self) -> &Bytes {
        &self.headers
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Returns the payload and drops the rest.
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    fn head(&self) -> Head<'_> {
        Head { path: &self.path, headers: &self.headers, payload_len: self.payload.len() }
    }
}

/// What stands before the payload.
#[derive(Clone, Copy)]
struct Head<'a> {
    path: &'a [u8],
    headers: &'a [u8],
    payload_len: usize,
}

impl Head<'_> {
    /// Looks at what a peer could not tell apart or would refuse.
    fn check(&self) -> Result<(), TcpRequestError> {
        check_path_length(self.path.len())?;
        check_path_text(self.path)?;
        if self.headers.len() > usize::from(u16::MAX) {
            return Err(TcpRequestError::HeadersTooLarge { len: self.headers.len() });
        }
        Ok(())
    }

    fn len(&self) -> usize {
        LENGTHS + self.path.len() + self.headers.len()
    }

    fn frame_len(&self) -> u64 {
        self.len() as u64 + self.payload_len as u64
    }
}

/// Turns requests into bytes and back.
///
/// The parts of a decoded request are slices of the read buffer, not copies. Between calls the
/// codec holds no bytes. Memory: while a frame arrives, the buffer's capacity stays at or under
/// twice the received bytes plus 64 KiB, whatever lengths were declared; after a frame above
/// 256 KiB the buffer is replaced by one of the size of what is left in it.
#[derive(Debug, Clone)]
pub struct TcpRequestCodec {
    max_message_size: usize,
    retention: Retention,
}

impl Default for TcpRequestCodec {
    /// Frames of at most 32 MiB, as Dynamo has it.
    fn default() -> Self {
        Self::new(DEFAULT_MAX_MESSAGE_SIZE)
    }
}

impl TcpRequestCodec {
    /// Makes a codec whose frames have at most `max_message_size` bytes, lengths included, in both
    /// directions.
    pub fn new(max_message_size: usize) -> Self {
        Self { max_message_size, retention: Retention::default() }
    }

    /// Limit of one frame in bytes, lengths included.
    pub fn max_message_size(&self) -> usize {
        self.max_message_size
    }

    /// Encodes one frame without copying the payload.
    ///
    /// # Errors
    /// The frame is over the limit.
    pub fn encode_parts(
        &self,
        message: TcpRequestMessage,
    ) -> Result<EncodedParts, TcpRequestError> {
        let head = self.encode_head(message.head())?;
        Ok(EncodedParts { head, body: message.payload })
    }

    /// Encodes one frame from its parts as [`Self::encode_parts`] does, without a message.
    ///
    /// # Errors
    /// As [`TcpRequestMessage::new`], and when the frame is over the limit.
    pub fn encode_request(
        &self,
        path: &str,
        headers: &[u8],
        payload: Bytes,
    ) -> Result<EncodedParts, TcpRequestError> {
        let head = Head { path: path.as_bytes(), headers, payload_len: payload.len() };
        head.check()?;
        Ok(EncodedParts { head: self.encode_head(head)?, body: payload })
    }

    fn encode_head(&self, head: Head<'_>) -> Result<Bytes, TcpRequestError> {
        let mut bytes = BytesMut::with_capacity(head.len());
        self.put_head(head, &mut bytes)?;
        Ok(bytes.freeze())
    }

    /// Appends one frame to `dst`. On error nothing is written.
    ///
    /// # Errors
    /// The frame is over the limit.
    pub fn encode_frame(
        &self,
        message: &TcpRequestMessage,
        dst: &mut BytesMut,
    ) -> Result<(), TcpRequestError> {
        self.put_head(message.head(), dst)?;
        dst.put_slice(&message.payload);
        Ok(())
    }

    fn put_head(&self, head: Head<'_>, dst: &mut BytesMut) -> Result<(), TcpRequestError> {
        self.check_total(head.frame_len())?;
        let payload_len = u32::try_from(head.payload_len).map_err(|_| {
            let frame_len = head.frame_len();
            TcpRequestError::MessageTooLarge { frame_len, limit: u32::MAX as usize }
        })?;
        // It was checked, so neither cast can cut.
        dst.put_u16(head.path.len() as u16);
        dst.put_slice(head.path);
        dst.put_u16(head.headers.len() as u16);
        dst.put_slice(head.headers);
        dst.put_u32(payload_len);
        Ok(())
    }

    /// Takes one frame from the front of `src`. `None` if the frame is not complete; then read
    /// more.
    ///
    /// # Errors
    /// The bytes are not a valid frame, or over the limit. Each part is checked as soon as it has
    /// arrived, and always in the same order, so the result does not depend on how the bytes were
    /// split into reads.
    pub fn decode_frame(
        &mut self,
        src: &mut BytesMut,
    ) -> Result<Option<TcpRequestMessage>, TcpRequestError> {
        let layout = match self.parse(src)? {
            Parsed::Needs(len) => {
                reserve_for(src, len.saturating_sub(src.len()));
                return Ok(None);
            }
            Parsed::Whole(layout) => layout,
        };
        let frame = src.split_to(layout.frame_len).freeze();
        self.retention.after_frame(src, layout.frame_len);
        Ok(Some(layout.split(&frame)))
    }

    /// Length of the frame at the front of `bytes`, once enough of it has arrived; `None` before
    /// that, and if it is not a valid frame.
    pub fn frame_len(&self, bytes: &[u8]) -> Option<usize> {
        match self.parse(bytes).ok()? {
            Parsed::Whole(layout) => Some(layout.frame_len),
            // What is needed is the whole frame as soon as its payload's length is there.
            Parsed::Needs(len) => {
                let path_len = short(bytes, 0)?;
                let headers_len = short(bytes, 2 + path_len)?;
                long(bytes, 2 + path_len + 2 + headers_len).map(|_| len)
            }
        }
    }

    /// Like [`Self::decode_frame`] after the stream has ended: an unfinished frame is
    /// [`TcpRequestError::Truncated`], an empty buffer is `None`.
    ///
    /// # Errors
    /// As [`Self::decode_frame`].
    pub fn decode_frame_at_end(
        &mut self,
        src: &mut BytesMut,
    ) -> Result<Option<TcpRequestMessage>, TcpRequestError> {
        match self.decode_frame(src)? {
            None if src.is_empty() => Ok(None),
            None => Err(self.truncated(src)),
            frame => Ok(frame),
        }
    }

    /// Decodes a buffer that must hold exactly one frame. The parts are slices of `bytes`.
    ///
    /// # Errors
    /// As [`Self::decode_frame`], and if bytes are missing or left over.
    pub fn decode_message(&self, bytes: Bytes) -> Result<TcpRequestMessage, TcpRequestError> {
        match self.parse(&bytes)? {
            Parsed::Needs(_) => Err(self.truncated(&bytes)),
            Parsed::Whole(layout) if bytes.len() > layout.frame_len => {
                Err(TcpRequestError::TrailingBytes { count: bytes.len() - layout.frame_len })
            }
            Parsed::Whole(layout) => Ok(layout.split(&bytes)),
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Parsed, TcpRequestError> {
        let Some(path_len) = short(bytes, 0).filter(|_| bytes.len() >= RECOGNISED_FROM) else {
            return Ok(Parsed::Needs(RECOGNISED_FROM));
        };
        check_path_length(path_len).map_err(|error| match ForeignProtocol::recognise(bytes) {
            Some(looks_like) => TcpRequestError::InvalidMessage { looks_like },
            None => error,
        })?;
        let headers_at = 2 + path_len;
        let Some(path) = bytes.get(2..headers_at) else {
            return Ok(Parsed::Needs(headers_at + 2));
        };
        check_path_text(path)?;
        let Some(headers_len) = short(bytes, headers_at) else {
            return Ok(Parsed::Needs(headers_at + 2));
        };
        // At most 68 KiB so far, so there is no overflow.
        let payload_at = headers_at + 2 + headers_len + 4;
        self.check_total(payload_at as u64)?;
        let Some(payload_len) = long(bytes, payload_at - 4) else {
            return Ok(Parsed::Needs(payload_at));
        };
        let frame_len = self.check_total(payload_at as u64 + u64::from(payload_len))?;
        if bytes.len() < frame_len {
            return Ok(Parsed::Needs(frame_len));
        }
        Ok(Parsed::Whole(Layout { path_len, headers_len, frame_len }))
    }

    fn check_total(&self, frame_len: u64) -> Result<usize, TcpRequestError> {
        let limit = self.max_message_size;
        match usize::try_from(frame_len) {
            Ok(len) if len <= limit => Ok(len),
            _ => Err(TcpRequestError::MessageTooLarge { frame_len, limit }),
        }
    }

    fn truncated(&self, bytes: &[u8]) -> TcpRequestError {
        let expected = match short(bytes, 0).filter(|len| *len <= MAX_REQUEST_PATH_BYTES) {
            Some(path_len) => short(bytes, 2 + path_len).and_then(|headers_len| {
                let payload_at = 2 + path_len + 2 + headers_len + 4;
                Some(payload_at as u64 + u64::from(long(bytes, payload_at - 4)?))
            }),
            None => None,
        };
        TcpRequestError::Truncated { received: bytes.len(), expected }
    }
}

enum Parsed {
    /// Not before so many bytes are there is more to be said.
    Needs(usize),
    Whole(Layout),
}

/// Where the parts of a whole frame lie.
struct Layout {
    path_len: usize,
    headers_len: usize,
    frame_len: usize,
}

impl Layout {
    fn split(&self, frame: &Bytes) -> TcpRequestMessage {
        let headers_at = 2 + self.path_len + 2;
        let payload_at = headers_at + self.headers_len + 4;
        TcpRequestMessage {
            path: frame.slice(2..2 + self.path_len),
            headers: frame.slice(headers_at..headers_at + self.headers_len),
            payload: frame.slice(payload_at..self.frame_len),
        }
    }
}

fn check_path_length(len: usize) -> Result<(), TcpRequestError> {
    match len {
        1..=MAX_REQUEST_PATH_BYTES => Ok(()),
        _ => Err(TcpRequestError::PathLength { len }),
    }
}

/// Paths end up in logs and in answers, so they may not move a terminal's cursor.
fn check_path_text(path: &[u8]) -> Result<(), TcpRequestError> {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(()),
        _ => Err(TcpRequestError::PathText),
    }
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk::<2>()?;
    Some(usize::from(u16::from_be_bytes(*bytes)))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

#[cfg(feature = "tokio")]
impl tokio_util::codec::Encoder<TcpRequestMessage> for TcpRequestCodec {
    type Error = TcpRequestError;

    fn encode(
        &mut self,
        message: TcpRequestMessage,
        dst: &mut BytesMut,
    ) -> Result<(), TcpRequestError> {
        self.encode_frame(&message, dst)
    }
}

#[cfg(feature = "tokio")]
impl tokio_util::codec::Decoder for TcpRequestCodec {
    type Item = TcpRequestMessage;
    type Error = TcpRequestError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<TcpRequestMessage>, TcpRequestError> {
        self.decode_frame(src)
    }

    fn decode_eof(
        &mut self,
        src: &mut BytesMut,
    ) -> Result<Option<TcpRequestMessage>, TcpRequestError> {
        self.decode_frame_at_end(src)
    }
}
