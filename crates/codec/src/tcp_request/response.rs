//! The acknowledgement frame.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{limits::reserve_for, tcp_request::TcpRequestError};

/// Bytes before the data of an acknowledgement.
const PREFIX: usize = 4;

/// Default limit of the data: the texts in use have less than 100 bytes, and a path fits.
const DEFAULT_MAX_DATA: usize = 8 * 1024;

/// One acknowledgement. Empty data means that the request was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TcpResponseMessage {
    /// The text of a refusal, or nothing.
    pub data: Bytes,
}

/// Turns acknowledgements into bytes and back. The data of a decoded one is a slice of the read
/// buffer; a declared length is never allocated before it is checked.
#[derive(Debug, Clone)]
pub struct TcpResponseCodec {
    max_data: usize,
}

impl Default for TcpResponseCodec {
    /// Acknowledgements of at most 8 KiB.
    fn default() -> Self {
        Self::new(DEFAULT_MAX_DATA)
    }
}

impl TcpResponseCodec {
    /// Makes a codec for acknowledgements of at most `max_data` bytes, in both directions.
    pub fn new(max_data: usize) -> Self {
        Self { max_data }
    }

    /// Appends one acknowledgement to `dst`. On error nothing is written.
    ///
    /// # Errors
    /// The data is over the limit.
    pub fn encode_frame(
        &self,
        message: &TcpResponseMessage,
        dst: &mut BytesMut,
    ) -> Result<(), TcpRequestError> {
        let len = message.data.len();
        self.check(len)?;
        let prefix = u32::try_from(len)
            .map_err(|_| TcpRequestError::AnswerTooLarge { len, limit: u32::MAX as usize })?;
        dst.reserve(PREFIX + len);
        dst.put_u32(prefix);
        dst.put_slice(&message.data);
        Ok(())
    }

    /// Takes one acknowledgement from the front of `src`. `None` if it is not complete; then read
    /// more.
    ///
    /// # Errors
    /// The declared length is over the limit.
    pub fn decode_frame(
        &mut self,
        src: &mut BytesMut,
    ) -> Result<Option<TcpResponseMessage>, TcpRequestError> {
        let Some(prefix) = src.first_chunk::<PREFIX>() else {
            reserve_for(src, PREFIX - src.len());
            return Ok(None);
        };
        let len = u32::from_be_bytes(*prefix) as usize;
        self.check(len)?;
        // Both are small now: the limit is one of memory.
        let Some(frame_len) = len.checked_add(PREFIX) else {
            return Err(TcpRequestError::AnswerTooLarge { len, limit: self.max_data });
        };
        if src.len() < frame_len {
            reserve_for(src, frame_len - src.len());
            return Ok(None);
        }
        let mut frame = src.split_to(frame_len).freeze();
        Ok(Some(TcpResponseMessage { data: frame.split_off(PREFIX) }))
    }

    /// Like [`Self::decode_frame`] after the stream has ended: an unfinished acknowledgement is
    /// [`TcpRequestError::Truncated`], an empty buffer is `None`.
    ///
    /// # Errors
    /// As [`Self::decode_frame`].
    pub fn decode_frame_at_end(
        &mut self,
        src: &mut BytesMut,
    ) -> Result<Option<TcpResponseMessage>, TcpRequestError> {
        match self.decode_frame(src)? {
            None if src.is_empty() => Ok(None),
            None => {
                let prefix = src.first_chunk::<PREFIX>();
                let expected = prefix.map(|it| u64::from(u32::from_be_bytes(*it)) + PREFIX as u64);
                Err(TcpRequestError::Truncated { received: src.len(), expected })
            }
            frame => Ok(frame),
        }
    }

    fn check(&self, len: usize) -> Result<(), TcpRequestError> {
        if len > self.max_data {
            return Err(TcpRequestError::AnswerTooLarge { len, limit: self.max_data });
        }
        Ok(())
    }
}

#[cfg(feature = "tokio")]
impl tokio_util::codec::Encoder<TcpResponseMessage> for TcpResponseCodec {
    type Error = TcpRequestError;

    fn encode(
        &mut self,
        message: TcpResponseMessage,
        dst: &mut BytesMut,
    ) -> Result<(), TcpRequestError> {
        self.encode_frame(&message, dst)
    }
}

#[cfg(feature = "tokio")]
impl tokio_util::codec::Decoder for TcpResponseCodec {
    type Item = TcpResponseMessage;
    type Error = TcpRequestError;

    fn decode(
        &mut self,
        src: &mut BytesMut,
    ) -> Result<Option<TcpResponseMessage>, TcpRequestError> {
        self.decode_frame(src)
    }

    fn decode_eof(
        &mut self,
        src: &mut BytesMut,
    ) -> Result<Option<TcpResponseMessage>, TcpRequestError> {
        self.decode_frame_at_end(src)
    }
}
