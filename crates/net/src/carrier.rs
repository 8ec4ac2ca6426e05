//! What moves the bytes of one connection.

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

/// A connection that moves bytes in order, in both directions: a socket, or what is laid over one.
///
/// Reading is [`AsyncRead`]'s: one call reads at most once, and a read that finds nothing keeps the
/// waker of its task. Whoever finds out what the peer speaks reads before the carrier is split.
///
/// One that is laid over another reads and writes that one's halves. Where its bytes differ from
/// those below, it keeps what it has taken and the one below has not: [`WriteHalf::try_flush`].
/// `tests/outside/src/masked.rs` of the repository is a whole one.
pub trait Carrier: AsyncRead + Send + Unpin {
    /// The name of the transport, in metrics and logs.
    fn transport(&self) -> TransportId;

    /// The other end, as far as the carrier knows. One that encrypts says so, and is asked before it is
    /// split.
    fn peer(&self) -> PeerFacts;

    /// The two directions. What was read before is not read again.
    fn split(self: Box<Self>) -> (ReadHalf, Arc<dyn WriteHalf>);
}

/// The direction from the peer.
pub type ReadHalf = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// The direction to the peer. Shared: whoever finds the connection idle writes by itself, so every
/// write is tried and never waited for. Calls that write or flush come one after another, from
/// whichever thread.
pub trait WriteHalf: Send + Sync {
    /// Writes what there is room for.
    ///
    /// A half that keeps bytes and has no room for more sends what it keeps here, or in
    /// [`poll_writable`](Self::poll_writable): it is not flushed then.
    ///
    /// # Errors
    /// `WouldBlock` without room: [`poll_writable`](Self::poll_writable) says when there is some.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// The same for several pieces. Without another implementation, writes the first that is not
    /// empty.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = pieces.iter().find(|piece| !piece.is_empty());
        first.map_or(Ok(0), |piece| self.try_write(piece))
    }

    /// Has what was written and is kept here, as by TLS, on its way. A socket keeps nothing. Called
    /// when all that was to be written has been taken.
    ///
    /// # Errors
    /// `WouldBlock` when something is left; to be called again once there is room.
    fn try_flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Ready when a write or flush may be tried again. Only one task waits at a time: the waker of
    /// the last call counts.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// No more bytes will be written; what was flushed still arrives.
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

/// Reads what is there into the spare room of `room`; 0 bytes are the end.
///
/// # Errors
/// `WouldBlock` when nothing is there. The waker that the half kept is forgotten: a task that waits
/// has to ask again by itself.
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

/// Waits until something is there, reads up to [`UNBUFFERED_READ_BYTES`] of it by way of the stack,
/// and appends it to `buffer`; 0 bytes are the end. A connection that waits in this way holds no
/// memory for what may come. Cancel-safe.
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
