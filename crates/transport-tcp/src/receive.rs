//! Reading from the socket: into the read buffer, or straight into a large message.

use std::io;

use bytes::{BufMut, BytesMut};
use sinew_mux::Inbound;
use tokio::io::AsyncReadExt;

use crate::socket::ReadHalf;

/// Room for one read in a new buffer, in bytes: a chunk of a large message and its header, in one
/// system call. Later reads have at least half of it.
pub(crate) const READ_BYTES: usize = 96 << 10;

/// Room for a read behind a large message: most often another one follows, whose first chunk can
/// go straight into it once its header is there.
const PEEK_BYTES: usize = 4 << 10;

/// The receiving half of a connection, and what of it is not understood yet.
pub(crate) struct Receiver {
    half: ReadHalf,
    /// What arrived and was not looked at.
    pub(crate) buffer: BytesMut,
    /// The last that was read belonged to a large message.
    bulk: bool,
}

impl Receiver {
    /// `first` is what was read so far.
    pub(crate) fn new(half: ReadHalf, first: BytesMut) -> Self {
        Self { half, buffer: first, bulk: false }
    }

    /// Waits for bytes and reads once, to where the next bytes belong. 0 is the end. Nothing is
    /// lost when it is dropped midway.
    pub(crate) async fn next(&mut self, inbound: &mut Inbound) -> io::Result<usize> {
        if let Some(mut room) = inbound.room() {
            let bytes = self.half.read_buf(&mut room).await?;
            inbound.filled(bytes, &mut self.buffer);
            self.bulk = true;
            return Ok(bytes);
        }
        // What was read before may still be in use, so room costs a new buffer: its second half
        // is used before that.
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 2 {
            self.buffer.reserve(READ_BYTES);
        }
        if !self.bulk {
            return self.half.read_buf(&mut self.buffer).await;
        }
        let bytes = self.half.read_buf(&mut (&mut self.buffer).limit(PEEK_BYTES)).await?;
        self.bulk = bytes < PEEK_BYTES;
        Ok(bytes)
    }

    /// Reads what is there of a large message. `None` when that is nothing, or something else
    /// comes next.
    pub(crate) fn try_chunk(&mut self, inbound: &mut Inbound) -> Option<io::Result<usize>> {
        match self.half.try_read_buf(&mut inbound.room()?) {
            Ok(bytes) => {
                inbound.filled(bytes, &mut self.buffer);
                Some(Ok(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Reads and drops up to `most` bytes, until the peer ends its direction.
    pub(crate) async fn discard(&mut self, most: usize) {
        let mut dropped = 0;
        while dropped < most {
            self.buffer.clear();
            self.buffer.reserve(READ_BYTES);
            match self.half.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => dropped += bytes,
            }
        }
    }

    /// Lets go of a buffer that has nothing in it.
    pub(crate) fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}
