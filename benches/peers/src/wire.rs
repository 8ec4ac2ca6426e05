//! A response on a byte stream of its own: a length before each item, and a mark at the end.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use anyhow::{Result, anyhow};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use sinew_benches::{Sent, Sink};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

/// In place of a length: no more items.
const END: u32 = u32::MAX;

const LENGTH_BYTES: usize = 4;

/// No more items are taken while this many bytes wait to be written.
const ROOM_BYTES: usize = 64 << 10;

/// Room for one read.
const READ_BYTES: usize = 64 << 10;

/// A length, then the bytes.
pub(crate) fn frame(body: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(LENGTH_BYTES + body.len());
    put(&mut out, body);
    out
}

fn put(out: &mut BytesMut, body: &[u8]) {
    out.reserve(LENGTH_BYTES + body.len());
    out.put_u32_le(body.len() as u32);
    out.put_slice(body);
}

/// The next frame; `None` when some of it has not come. `Some(None)` is the mark at the end.
fn take(buffer: &mut BytesMut) -> Option<Option<Bytes>> {
    let (length, rest) = buffer.split_first_chunk::<LENGTH_BYTES>()?;
    let length = u32::from_le_bytes(*length);
    if length == END {
        buffer.advance(LENGTH_BYTES);
        return Some(None);
    }
    let length = length as usize;
    if rest.len() < length {
        buffer.reserve(LENGTH_BYTES + length - buffer.len());
        return None;
    }
    buffer.advance(LENGTH_BYTES);
    Some(Some(buffer.split_to(length).freeze()))
}

/// Reads frames off a byte stream.
pub(crate) struct FrameReader<R> {
    half: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(half: R) -> Self {
        Self { half, buffer: BytesMut::new() }
    }

    /// The next frame; `None` at the mark.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            if let Some(frame) = take(&mut self.buffer) {
                return Poll::Ready(Ok(frame));
            }
            self.buffer.reserve(READ_BYTES);
            let read = ready!(poll_read_buf(Pin::new(&mut self.half), cx, &mut self.buffer))?;
            if read == 0 {
                return Poll::Ready(Err(anyhow!("the connection is gone")));
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }
}

/// What is left to do when the mark has been written.
pub(crate) trait Half: AsyncWrite + Unpin + Send + 'static {
    fn finish(&mut self);
}

/// The sending end of a response: gathers items and writes them from whoever flushes.
pub(crate) struct WireSink<W: Half> {
    out: RefCell<Out<W>>,
}

struct Out<W> {
    half: W,
    waiting: BytesMut,
    is_closed: bool,
    writes: Arc<AtomicU64>,
}

impl<W: Half> WireSink<W> {
    /// `writes` counts calls into the operating system, or into the library that makes them.
    pub(crate) fn new(half: W, writes: Arc<AtomicU64>) -> Self {
        let out = Out { half, waiting: BytesMut::new(), is_closed: false, writes };
        Self { out: RefCell::new(out) }
    }
}

impl<W: Half> Out<W> {
    /// Ready when nothing waits any more, with whether somebody is still there.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while !self.waiting.is_empty() && !self.is_closed {
            match ready!(Pin::new(&mut self.half).poll_write(cx, &self.waiting)) {
                Ok(written) if written > 0 => {
                    self.writes.fetch_add(1, Ordering::Relaxed);
                    self.waiting.advance(written);
                }
                _ => self.is_closed = true,
            }
        }
        Poll::Ready(!self.is_closed)
    }

    /// Writes what can be written now. Who waits for room asks again with a waker of its own.
    fn write_now(&mut self) -> Poll<bool> {
        self.poll_write_out(&mut Context::from_waker(Waker::noop()))
    }
}

impl<W: Half> Sink for WireSink<W> {
    fn try_send(&mut self, item: &Bytes) -> Sent {
        let out = self.out.get_mut();
        if out.is_closed {
            return Sent::Closed;
        }
        if out.waiting.len() >= ROOM_BYTES && out.write_now().is_pending() {
            return Sent::Full;
        }
        put(&mut out.waiting, item);
        Sent::Taken
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.out.get_mut().poll_write_out(cx)
    }

    fn flush(&self) {
        // Whether it is pending or closed is asked for with the next item.
        let _ = self.out.borrow_mut().write_now();
    }

    fn end(self) {
        let mut out = self.out.into_inner();
        out.waiting.put_u32_le(END);
        if out.write_now().is_ready() {
            return out.half.finish();
        }
        // Ends with what is written or with the connection.
        tokio::spawn(async move {
            poll_fn(|cx| out.poll_write_out(cx)).await;
            out.half.finish();
        });
    }
}
