//! The writing half of a connection: who writes, and when.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use sinew_plane::{Flush, defer_flush};
use tokio::{net::tcp::OwnedWriteHalf, sync::Notify};

use super::frame::{self, Kind};

/// A server takes no more items while this many bytes wait. The same as Sinew's outbox.
pub(super) const ROOM_BYTES: usize = 256 << 10;

/// Payloads up to this size are copied behind their header, larger ones written as they are.
const COPY_BYTES: usize = 2 << 10;

/// Pieces in one vectored write.
const SLICES: usize = 64;

/// Who writes to the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writes {
    /// Always the writer task.
    ByTask,
    /// Who has the connection to itself, else the writer task once all have had their turn.
    Eagerly,
}

pub(super) struct Link {
    socket: OwnedWriteHalf,
    policy: Writes,
    out: Mutex<Out>,
    writer: Notify,
    closed: AtomicBool,
    /// Streams that run on the connection.
    pub(super) streams: AtomicUsize,
    pub(super) writes: AtomicU64,
}

#[derive(Default)]
struct Out {
    /// Large payloads and what stood before each.
    parts: VecDeque<Bytes>,
    /// Where small frames gather; behind all parts.
    tail: BytesMut,
    bytes: usize,
    state: State,
    waiting: Vec<Waker>,
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    /// Somebody writes and will look again before it stops.
    Writing,
    /// The socket was full; the writer task goes on.
    Stalled(VecDeque<Bytes>),
}

impl Link {
    pub(super) fn new(socket: OwnedWriteHalf, policy: Writes) -> Self {
        Self {
            socket,
            policy,
            out: Mutex::default(),
            writer: Notify::new(),
            closed: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
            writes: AtomicU64::new(0),
        }
    }

    pub(super) fn push(&self, kind: Kind, stream: u32, payload: &Bytes) {
        self.out.lock().push(kind, stream, payload);
    }

    /// False, and nothing done, while too much waits to be written.
    pub(super) fn push_within_room(&self, kind: Kind, stream: u32, payload: &Bytes) -> bool {
        let mut out = self.out.lock();
        let room = out.bytes < ROOM_BYTES;
        if room {
            out.push(kind, stream, payload);
        }
        room
    }

    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut out = self.out.lock();
        if self.is_closed() || out.bytes < ROOM_BYTES {
            return Poll::Ready(!self.is_closed());
        }
        out.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for waker in std::mem::take(&mut self.out.lock().waiting) {
            waker.wake();
        }
    }

    /// Sees to it that what was pushed is written.
    pub(super) fn write_out(self: &Arc<Self>) {
        if defer_flush(self) {
            return;
        }
        if self.policy == Writes::Eagerly && self.streams.load(Ordering::Relaxed) <= 1 {
            self.write_now();
        } else {
            self.writer.notify_one();
        }
    }

    fn write_now(&self) {
        {
            let mut out = self.out.lock();
            if !matches!(out.state, State::Idle) {
                return;
            }
            out.state = State::Writing;
        }
        while let Some(mut batch) = self.next_batch() {
            match self.try_write(&mut batch) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.out.lock().state = State::Stalled(batch);
                    self.writer.notify_one();
                    return;
                }
                Err(_) => return self.close(),
            }
        }
    }

    /// What is to be written next, or `None` after letting go of the writing.
    fn next_batch(&self) -> Option<VecDeque<Bytes>> {
        let (batch, waiting) = {
            let mut out = self.out.lock();
            (out.take(), std::mem::take(&mut out.waiting))
        };
        for waker in waiting {
            waker.wake();
        }
        batch
    }

    fn try_write(&self, batch: &mut VecDeque<Bytes>) -> io::Result<()> {
        while !batch.is_empty() {
            let mut written = match batch.len() {
                1 => self.socket.try_write(&batch[0])?,
                _ => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let pieces = batch.len().min(SLICES);
                    for (slice, part) in slices.iter_mut().zip(batch.iter()) {
                        *slice = IoSlice::new(part);
                    }
                    self.socket.try_write_vectored(&slices[..pieces])?
                }
            };
            self.writes.fetch_add(1, Ordering::Relaxed);
            while let Some(first) = batch.front_mut() {
                if written < first.len() {
                    first.advance(written);
                    break;
                }
                written -= first.len();
                batch.pop_front();
            }
        }
        Ok(())
    }

    /// The writer task.
    pub(super) async fn run_writer(self: Arc<Self>) {
        loop {
            self.writer.notified().await;
            if self.policy == Writes::Eagerly {
                // Whoever is about to send adds to this batch.
                tokio::task::yield_now().await;
            }
            let Some(mut next) = self.out.lock().claim() else { continue };
            while let Some(mut batch) = next.take().or_else(|| self.next_batch()) {
                match self.try_write(&mut batch) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        next = Some(batch);
                        if self.socket.writable().await.is_err() {
                            return self.close();
                        }
                    }
                    Err(_) => return self.close(),
                }
            }
        }
    }
}

impl Flush for Link {
    fn flush(&self) {
        match self.policy {
            Writes::Eagerly => self.write_now(),
            Writes::ByTask => self.writer.notify_one(),
        }
    }
}

impl Out {
    fn push(&mut self, kind: Kind, stream: u32, payload: &Bytes) {
        self.bytes += frame::HEADER_BYTES + payload.len();
        self.tail.extend_from_slice(&frame::header(kind, stream, payload.len()));
        if payload.len() <= COPY_BYTES {
            self.tail.extend_from_slice(payload);
        } else {
            self.parts.push_back(self.tail.split().freeze());
            self.parts.push_back(payload.clone());
        }
    }

    /// Makes the writer task the one who writes, with what a sender could not. `None` when
    /// somebody writes already, who will look again.
    fn claim(&mut self) -> Option<Option<VecDeque<Bytes>>> {
        match std::mem::replace(&mut self.state, State::Writing) {
            State::Idle => Some(None),
            State::Stalled(batch) => Some(Some(batch)),
            State::Writing => None,
        }
    }

    fn take(&mut self) -> Option<VecDeque<Bytes>> {
        if self.bytes == 0 {
            self.state = State::Idle;
            return None;
        }
        self.bytes = 0;
        let mut batch = std::mem::take(&mut self.parts);
        if !self.tail.is_empty() {
            batch.push_back(self.tail.split().freeze());
        }
        Some(batch)
    }
}
