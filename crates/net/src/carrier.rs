//! The carrier trait, which moves the bytes of one connection.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{BufMut, BytesMut};
use sinew_plane::{PeerFacts, TransportId};
use tokio::io::{AsyncRead, ReadBuf};

/// Most bytes that [`read_without_buffer`] reads at once: a hello, or a request of common size.
pub const UNBUFFERED_READ_BYTES: usize = 8 << 10;

/// A connection that moves bytes in order, in both directions: a socket, or a layer over one, such
/// as TLS.
///
/// Reads use [`AsyncRead`]: one call reads at most once, and a read that finds nothing keeps the
/// waker of its task. The port reads the first bytes before the carrier is split.
///
/// A carrier over another one reads and writes the halves of that one. If it changes the bytes, it
/// buffers those that the lower carrier has not taken yet, see [`WriteHalf::try_flush`].
/// `tests/outside/src/masked.rs` in the repository is a complete example.
pub trait Carrier: AsyncRead + Send + Unpin {
    /// The name of the transport, in metrics and logs.
    fn transport(&self) -> TransportId;

    /// What the carrier knows about the other end. A carrier that encrypts must report that here. This
    /// method is called before [`split`](Self::split).
    fn peer(&self) -> PeerFacts;

    /// Splits the carrier into its two directions. Bytes that were read before are not read again.
    fn split(self: Box<Self>) -> (ReadHalf, Arc<dyn WriteHalf>);
}

/// The half that reads from the peer.
pub type ReadHalf = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// The half that writes to the peer. It is shared, because any task that finds the connection idle
/// writes itself, so a write is tried and never waits. Calls that write or flush come one after
/// another, from any thread.
pub trait WriteHalf: Send + Sync {
    /// Writes as much as there is room for.
    ///
    /// A half that buffers bytes and has no room for more sends its buffer here or in
    /// [`poll_writable`](Self::poll_writable), because it is not flushed in that state.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; [`poll_writable`](Self::poll_writable) is ready when there
    /// is.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// As [`try_write`](Self::try_write), for several pieces. The default writes the first that is
    /// not empty.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = pieces.iter().find(|piece| !piece.is_empty());
        first.map_or(Ok(0), |piece| self.try_write(piece))
    }

    /// Sends bytes that were written and are buffered here, as TLS does. A socket buffers nothing.
    /// Called after all output has been written.
    ///
    /// # Errors
    /// `WouldBlock` if bytes are left; it is called again once there is room.
    fn try_flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Ready when a write or flush may be tried again. Only one task waits at a time; the waker of
    /// the last call is kept.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the writing. Bytes that were flushed still arrive.
    fn shutdown(&self);
}

impl dyn WriteHalf {
    /// Waits until a write may be tried again. Cancel-safe.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_writable(cx)).await
    }
}

/// Reads available bytes into the spare capacity of `room`; 0 bytes mean the end.
///
/// # Errors
/// `WouldBlock` if no byte is available. This drops the waker that the half kept, so a waiting task
/// has to poll again.
pub fn try_read<R>(half: &mut R, room: &mut impl BufMut) -> io::Result<usize>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut cx = Context::from_waker(Waker::noop());
    match tokio_util::io::poll_read_buf(Pin::new(half), &mut cx, room) {
        Poll::Ready(read) => read,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Waits for bytes, reads up to [`UNBUFFERED_READ_BYTES`] of them into a buffer on the stack, and
/// appends them to `buffer`; 0 bytes mean the end. A connection that waits in this way holds no
/// read buffer. Cancel-safe.
///
/// # Errors
/// The connection is broken.
pub async fn read_without_buffer<R>(half: &mut R, buffer: &mut BytesMut) -> io::Result<usize>
where
    R: AsyncRead + Unpin + ?Sized,
{
    poll_fn(|cx| {
        let mut stack = [MaybeUninit::uninit(); UNBUFFERED_READ_BYTES];
        let mut room = ReadBuf::uninit(&mut stack);
        ready!(Pin::new(&mut *half).poll_read(cx, &mut room))?;
        buffer.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_try_takes_what_is_there_and_no_more() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let mut room = BytesMut::with_capacity(16);
        let nothing = try_read(&mut near, &mut room).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        far.write_all(b"abc").await.unwrap();
        assert_eq!(try_read(&mut near, &mut room).unwrap(), 3);
        assert_eq!(&room[..], b"abc");
        drop(far);
        assert_eq!(try_read(&mut near, &mut room).unwrap(), 0, "the end");
    }

    #[tokio::test]
    async fn a_wait_holds_no_buffer_and_appends_what_comes() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let mut buffer = BytesMut::new();
        {
            let mut waiting = std::pin::pin!(read_without_buffer(&mut near, &mut buffer));
            assert!(futures_poll(waiting.as_mut()).is_pending());
        }
        assert_eq!(buffer.capacity(), 0);
        far.write_all(b"hello").await.unwrap();
        assert_eq!(read_without_buffer(&mut near, &mut buffer).await.unwrap(), 5);
        far.write_all(b", you").await.unwrap();
        assert_eq!(read_without_buffer(&mut near, &mut buffer).await.unwrap(), 5);
        assert_eq!(&buffer[..], b"hello, you");
    }

    /// Has room for three bytes.
    struct Three(Mutex<Vec<u8>>);

    impl WriteHalf for Three {
        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(3);
            self.0.lock().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn shutdown(&self) {}
    }

    #[test]
    fn a_half_that_knows_no_pieces_writes_the_first_that_is_not_empty() {
        let half = Three(Mutex::default());
        let pieces = [&b""[..], b"abcd", b"ef"].map(IoSlice::new);
        assert_eq!(half.try_write_vectored(&pieces).unwrap(), 3);
        assert_eq!(*half.0.lock(), b"abc");
        assert_eq!(half.try_write_vectored(&[]).unwrap(), 0);
    }

    fn futures_poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }
}
