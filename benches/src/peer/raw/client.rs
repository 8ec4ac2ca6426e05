//! The calling side: a table of streams, each with a queue that the reader fills.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
};

use anyhow::{Result, anyhow};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, tcp::OwnedReadHalf},
    task::JoinSet,
};

use super::{
    frame::{self, Kind, READ_BYTES},
    link::{Link, Writes},
};
use crate::Caller;

#[derive(Clone)]
pub(in crate::peer) struct RawCaller {
    shared: Arc<Shared>,
    /// Reader and writer; they end with the last clone.
    _tasks: Arc<JoinSet<()>>,
}

struct Shared {
    link: Arc<Link>,
    next_stream: AtomicU32,
    streams: Mutex<FxHashMap<u32, Arc<Queue>>>,
}

/// What has arrived for one stream. All that an idle stream costs beside its table entry.
#[derive(Default)]
struct Queue(Mutex<Arrived>);

#[derive(Default)]
struct Arrived {
    items: VecDeque<Bytes>,
    end: End,
    waker: Option<Waker>,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum End {
    #[default]
    Open,
    Complete,
    Lost,
}

impl RawCaller {
    pub(super) fn new(socket: TcpStream, writes: Writes) -> Result<Self> {
        socket.set_nodelay(true)?;
        let (read, write) = socket.into_split();
        let link = Arc::new(Link::new(write, writes));
        let shared = Arc::new(Shared {
            link: Arc::clone(&link),
            next_stream: AtomicU32::new(0),
            streams: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(link.run_writer());
        tasks.spawn(run_reader(Arc::clone(&shared), read));
        Ok(Self { shared, _tasks: Arc::new(tasks) })
    }
}

impl Caller for RawCaller {
    type Items = RawItems;

    async fn open(&self, request: Bytes) -> Result<RawItems> {
        let shared = &self.shared;
        let stream = shared.next_stream.fetch_add(1, Ordering::Relaxed);
        let queue = Arc::new(Queue::default());
        shared.streams.lock().insert(stream, Arc::clone(&queue));
        shared.link.streams.fetch_add(1, Ordering::Relaxed);
        shared.link.push(Kind::Open, stream, &request);
        shared.link.write_out();
        if shared.link.is_closed() {
            return Err(anyhow!("the connection is gone"));
        }
        Ok(RawItems { shared: Arc::clone(shared), stream, queue, batch: VecDeque::new() })
    }

    fn writes(&self) -> Option<u64> {
        Some(self.shared.link.writes.load(Ordering::Relaxed))
    }
}

pub(in crate::peer) struct RawItems {
    shared: Arc<Shared>,
    stream: u32,
    queue: Arc<Queue>,
    batch: VecDeque<Bytes>,
}

impl Stream for RawItems {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(item) = this.batch.pop_front() {
            return Poll::Ready(Some(Ok(item)));
        }
        let mut arrived = this.queue.0.lock();
        if !arrived.items.is_empty() {
            std::mem::swap(&mut this.batch, &mut arrived.items);
            return Poll::Ready(this.batch.pop_front().map(Ok));
        }
        match arrived.end {
            End::Open => {
                arrived.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            End::Complete => Poll::Ready(None),
            End::Lost => Poll::Ready(Some(Err(anyhow!("the connection is gone")))),
        }
    }
}

impl Drop for RawItems {
    fn drop(&mut self) {
        if self.queue.0.lock().end == End::Open {
            self.shared.forget(self.stream);
        }
    }
}

impl Shared {
    fn forget(&self, stream: u32) {
        if self.streams.lock().remove(&stream).is_some() {
            self.link.streams.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

async fn run_reader(shared: Arc<Shared>, mut half: OwnedReadHalf) {
    let mut buffer = BytesMut::new();
    let mut wakers = Vec::new();
    loop {
        buffer.reserve(READ_BYTES);
        let read = half.read_buf(&mut buffer).await;
        let understood = match read {
            Ok(bytes) if bytes > 0 => deliver(&shared, &mut buffer, &mut wakers),
            _ => break,
        };
        for waker in wakers.drain(..) {
            waker.wake();
        }
        if understood.is_err() {
            break;
        }
    }
    shared.link.close();
    for (_, queue) in shared.streams.lock().drain() {
        queue.add(&mut VecDeque::new(), End::Lost, &mut wakers);
    }
    for waker in wakers {
        waker.wake();
    }
}

/// Puts all frames of one read into their queues; those of one stream that follow each other
/// under one lock.
fn deliver(shared: &Shared, buffer: &mut BytesMut, wakers: &mut Vec<Waker>) -> Result<()> {
    let mut streams = shared.streams.lock();
    let mut run = VecDeque::new();
    let mut current = None;
    let mut add = |stream: u32, run: &mut VecDeque<Bytes>, end: End| {
        if end != End::Open {
            if let Some(queue) = streams.remove(&stream) {
                shared.link.streams.fetch_sub(1, Ordering::Relaxed);
                queue.add(run, end, wakers);
            }
        } else if let Some(queue) = streams.get(&stream) {
            queue.add(run, end, wakers);
        }
        run.clear();
    };
    while let Some(frame) = frame::next(buffer)? {
        if let Some(stream) = current
            && stream != frame.stream
            && !run.is_empty()
        {
            add(stream, &mut run, End::Open);
        }
        current = Some(frame.stream);
        if frame.kind != Kind::End {
            run.push_back(frame.payload);
        }
        if matches!(frame.kind, Kind::Last | Kind::End) {
            add(frame.stream, &mut run, End::Complete);
        }
    }
    if let (Some(stream), false) = (current, run.is_empty()) {
        add(stream, &mut run, End::Open);
    }
    Ok(())
}

impl Queue {
    fn add(&self, items: &mut VecDeque<Bytes>, end: End, wakers: &mut Vec<Waker>) {
        let mut arrived = self.0.lock();
        if arrived.items.is_empty() {
            std::mem::swap(&mut arrived.items, items);
        } else {
            arrived.items.append(items);
        }
        arrived.end = end;
        wakers.extend(arrived.waker.take());
    }
}
