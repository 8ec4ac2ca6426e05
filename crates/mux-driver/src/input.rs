//! Reads from the carrier, into the read buffer or directly into a large message.

use std::{io, sync::Arc};

use bytes::{BufMut, BytesMut};
use sinew_mux::READ_BYTES;
use sinew_net::{ReadHalf, UNBUFFERED_READ_BYTES, read_without_buffer, try_read};
use sinew_plane::{
    BudgetUse,
    budget::{Account, Hold, Work},
};
use tokio::io::AsyncReadExt;

use crate::connection::Tasks;

type Receiver = sinew_mux::Receiver<Tasks>;

/// Room for the first read behind a pause. A read that fills it has four times as much the next
/// time, up to [`READ_BYTES`]: most connections never carry so much at once.
const FIRST_BYTES: usize = 8 << 10;

/// Room for a read behind a large message: most often another one follows, whose first chunk can
/// go straight into it once its header is there.
const PEEK_BYTES: usize = 4 << 10;

/// The receiving half of a connection, and what of it is not understood yet.
pub(crate) struct Input {
    half: ReadHalf,
    /// What arrived and was not looked at. Without room until there is something to read.
    pub(crate) buffer: BytesMut,
    /// Room for the next read.
    size: usize,
    /// Where a buffer that has grown is charged.
    account: Option<Arc<Account>>,
    grown: Option<Hold>,
    /// The last that was read belonged to a large message.
    bulk: bool,
}

impl Input {
    /// `first` is what was read so far.
    pub(crate) fn new(half: ReadHalf, first: BytesMut, account: Option<Arc<Account>>) -> Self {
        Self { half, buffer: first, size: FIRST_BYTES, account, grown: None, bulk: false }
    }

    /// Waits for bytes and reads once, to where the next bytes belong. 0 is the end. Nothing is
    /// lost when it is dropped midway.
    pub(crate) async fn next(&mut self, receiver: &mut Receiver) -> io::Result<usize> {
        if let Some(mut room) = receiver.room() {
            let bytes = self.half.read_buf(&mut room).await?;
            receiver.filled(bytes, &mut self.buffer);
            self.bulk = true;
            return Ok(bytes);
        }
        if self.buffer.capacity() == 0 {
            let bytes = read_without_buffer(&mut self.half, &mut self.buffer).await?;
            self.grow(bytes == UNBUFFERED_READ_BYTES);
            return Ok(bytes);
        }
        // What was read before may still be in use, so room costs a new buffer: its second half
        // is used before that.
        if self.buffer.capacity() - self.buffer.len() < self.size / 2 {
            self.buffer.reserve(self.size);
        }
        if !self.bulk {
            let room = self.buffer.capacity() - self.buffer.len();
            let bytes = self.half.read_buf(&mut self.buffer).await?;
            self.grow(bytes == room);
            return Ok(bytes);
        }
        let bytes = self.half.read_buf(&mut (&mut self.buffer).limit(PEEK_BYTES)).await?;
        self.bulk = bytes < PEEK_BYTES;
        Ok(bytes)
    }

    /// A read filled its room: the next has more, if the memory budget has it.
    fn grow(&mut self, filled: bool) {
        if !filled || self.size == READ_BYTES {
            return;
        }
        let size = (4 * self.size).min(READ_BYTES);
        if let Some(account) = &self.account {
            let charged = match &mut self.grown {
                Some(hold) => hold.grow_to(size, Work::New),
                None => {
                    self.grown = account.hold(BudgetUse::Buffers, size, Work::New);
                    self.grown.is_some()
                }
            };
            if !charged {
                return;
            }
        }
        self.size = size;
    }

    /// Reads what is there of a large message. `None` when that is nothing, or something else
    /// comes next.
    pub(crate) fn try_chunk(&mut self, receiver: &mut Receiver) -> Option<io::Result<usize>> {
        match try_read(&mut self.half, &mut receiver.room()?) {
            Ok(bytes) => {
                receiver.filled(bytes, &mut self.buffer);
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
            self.buffer.reserve(self.size);
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
            (self.size, self.grown) = (FIRST_BYTES, None);
        }
    }
}
