//! Who writes, and when.
//!
//! With few streams the sender itself writes, which saves a hop between tasks; with many, the
//! writer task gathers what all of them have and writes once. Either way only one writes at a
//! time, and looks again before it lets go, so nothing is left behind.

use std::{
    io::{self, IoSlice},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sinew_mux::{Batch, PollFrame};
use sinew_plane::{ACCEPTANCE_LOOK, Code, Error, Flush, timeout};
use tokio::time::Instant;

use crate::connection::{Connection, SendState};

/// With up to this many streams a sender writes by itself.
const EAGER_STREAMS: usize = 2;

/// Batches that a sender writes in a row before the writer task takes over, so that a caller is
/// not held up with the output of others.
const EAGER_BATCHES: usize = 2;

/// Pieces in one vectored write; more go into the next.
const SLICES: usize = 64;

/// Time for the reader to fetch what the peer sent before a write failed. The socket of a peer that
/// is gone ends by itself, once what lies in it is read; this is for one that only does not read.
const LAST_READS: Duration = Duration::from_secs(1);

/// Time for what is written when a connection closes: terminals and the goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

enum Written {
    All,
    Blocked,
    Failed(io::Error),
}

impl Connection {
    /// Sees to it that everything that waits is written.
    pub(crate) fn write_out(&self) {
        if self.active.load(Ordering::Relaxed) > EAGER_STREAMS {
            self.write_soon();
            return;
        }
        {
            let mut out = self.out.lock();
            if out.writing || !out.outbound.has_output() {
                return;
            }
            out.writing = true;
        }
        self.write_batches();
    }

    /// Leaves the writing to the writer task, which first lets others add to it.
    pub(crate) fn write_soon(&self) {
        let out = self.out.lock();
        if !out.writing && out.outbound.has_output() {
            drop(out);
            self.writer.notify_one();
        }
    }

    /// Writes as the one who has set `writing`.
    fn write_batches(&self) {
        for _ in 0..EAGER_BATCHES {
            let Some(mut batch) = self.next_batch() else { return };
            match self.try_write(&mut batch) {
                Written::All => self.batch_written(&mut batch),
                Written::Blocked => {
                    self.out.lock().stalled = Some(batch);
                    break;
                }
                Written::Failed(error) => return self.write_failed(error),
            }
        }
        self.out.lock().handed_over = true;
        self.writer.notify_one();
    }

    fn batch_written(&self, batch: &mut Batch) {
        self.out.lock().outbound.recycle(batch);
        self.written.notify_waiters();
    }

    /// The next batch, or `None` after letting go of the writing.
    fn next_batch(&self) -> Option<Batch> {
        loop {
            self.send_next_of_each();
            let mut out = self.out.lock();
            let batch = out.outbound.take_batch();
            if !batch.is_empty() {
                return Some(batch);
            }
            if !out.outbound.has_output() {
                out.writing = false;
                drop(out);
                self.written.notify_waiters();
                return None;
            }
        }
    }

    /// Lets the streams that stand in line add their data while there is room.
    fn send_next_of_each(&self) {
        loop {
            let Some(stream) = self.out.lock().outbound.next_turn() else { return };
            if self.role.opens(stream) {
                let call = self.streams.lock().calls.get(&stream).cloned();
                if let Some(call) = call {
                    call.send_next();
                }
                continue;
            }
            let response = self.streams.lock().responses.get(&stream).cloned();
            if response.is_some_and(|response| response.send_next() == PollFrame::Ended) {
                self.remove_response(stream);
            }
        }
    }

    fn try_write(&self, batch: &mut Batch) -> Written {
        while !batch.is_empty() {
            match self.try_write_once(batch) {
                Ok(0) => return Written::Failed(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    self.sending.writes.fetch_add(1, Ordering::Relaxed);
                    self.sending.meter.sent(bytes);
                    batch.advance(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Written::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Written::Failed(error),
            }
        }
        self.try_flush()
    }

    /// A carrier may have taken bytes that its own carrier has no room for.
    fn try_flush(&self) -> Written {
        loop {
            match self.sending.carrier.try_flush() {
                Ok(()) => return Written::All,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Written::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Written::Failed(error),
            }
        }
    }

    /// One write of as many pieces as fit. Most batches are one piece, which needs no list.
    fn try_write_once(&self, batch: &Batch) -> io::Result<usize> {
        if let Some(bytes) = batch.only() {
            return self.sending.carrier.try_write(bytes);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = batch.fill(&mut slices);
        self.sending.carrier.try_write_vectored(&slices[..filled])
    }

    /// Nothing may follow a frame that was cut, and no stream is opened any more. The writer task
    /// ends the connection once the reader has had what arrived before.
    fn write_failed(&self, cause: io::Error) {
        let mut out = self.out.lock();
        out.broken = Some(Arc::new(cause));
        out.outbound.on_go_away();
        drop(out);
        self.written.notify_waiters();
        self.writer.notify_one();
    }

    /// Waits until the reader has read what the peer sent before the write failed, and closes.
    async fn close_broken(&self) {
        let Some(cause) = self.out.lock().broken.clone() else { return };
        tokio::select! {
            biased;
            () = self.closed.cancelled() => return,
            () = self.read_ended.cancelled() => return,
            () = tokio::time::sleep(LAST_READS) => {}
        }
        let message = format!("the connection broke while writing: {cause}");
        self.close(&Error::new(Code::ConnectionLost, message).with_source(cause));
    }

    /// The writer task: takes over what a sender could not write, and gathers what many have.
    ///
    /// While there are streams that were admitted and not answered, it looks after them.
    pub(crate) async fn run_writer(self: Arc<Self>) {
        let mut look = std::pin::pin!(tokio::time::sleep(ACCEPTANCE_LOOK));
        let mut watches = false;
        loop {
            tokio::select! {
                biased;
                () = self.closed.cancelled() => break,
                () = self.writer.notified() => {}
                () = &mut look, if watches => {
                    watches = self.accept_admitted();
                    look.as_mut().reset(Instant::now() + ACCEPTANCE_LOOK);
                }
            }
            if self.watch.load(Ordering::Relaxed) && self.watch.swap(false, Ordering::AcqRel) {
                watches = true;
                look.as_mut().reset(Instant::now() + ACCEPTANCE_LOOK);
            }
            if self.out.lock().broken.is_some() {
                break;
            }
            if !self.out.lock().handed_over {
                // One turn through the run queue: whoever is about to send adds to this batch.
                tokio::task::yield_now().await;
            }
            if self.claim_writing() && !self.write_until_empty().await {
                break;
            }
        }
        self.close_broken().await;
        // The reader has the last word: up to which stream it has taken requests in.
        self.read_ended.cancelled().await;
        self.close_gracefully().await;
    }

    fn claim_writing(&self) -> bool {
        let SendState { outbound, writing, handed_over, .. } = &mut *self.out.lock();
        if std::mem::take(handed_over) {
            return true;
        }
        let claimed = !*writing && outbound.has_output();
        *writing |= claimed;
        claimed
    }

    /// False when the connection is over.
    async fn write_until_empty(&self) -> bool {
        loop {
            let stalled = self.out.lock().stalled.take();
            let Some(mut batch) = stalled.or_else(|| self.next_batch()) else { return true };
            if !self.write_whole(&mut batch).await {
                return false;
            }
            self.batch_written(&mut batch);
        }
    }

    async fn write_whole(&self, batch: &mut Batch) -> bool {
        loop {
            match self.try_write(batch) {
                Written::All => return true,
                Written::Failed(error) => {
                    self.write_failed(error);
                    return false;
                }
                Written::Blocked => {}
            }
            let writable = timeout(self.config.write_timeout, self.sending.carrier.writable());
            let cause = tokio::select! {
                biased;
                () = self.closed.cancelled() => {
                    // Its frames are begun: the goodbye must follow their rest.
                    self.out.lock().stalled = Some(std::mem::take(batch));
                    return false;
                }
                ready = writable => match ready {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error,
                    Err(_) => io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the peer does not read what is sent to it",
                    ),
                },
            };
            self.write_failed(cause);
            return false;
        }
    }

    /// Writes what is left, for a short time, and ends the direction.
    async fn close_gracefully(&self) {
        // A peer that does not read the last words in this time does not get them.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.write_rest()).await;
        self.sending.carrier.shutdown();
    }

    async fn write_rest(&self) {
        while !self.claim_closing() {
            // A sender is in the middle of its write, which does not wait.
            tokio::task::yield_now().await;
        }
        loop {
            let stalled = self.out.lock().stalled.take();
            let has_more = stalled.is_some();
            let mut batch = stalled.unwrap_or_else(|| self.out.lock().outbound.take_batch());
            // One that stalled may be written and not flushed.
            if batch.is_empty() && !has_more || self.out.lock().broken.is_some() {
                return;
            }
            loop {
                match self.try_write(&mut batch) {
                    Written::All => break,
                    Written::Blocked if self.sending.carrier.writable().await.is_ok() => {}
                    Written::Blocked | Written::Failed(_) => return,
                }
            }
        }
    }

    /// True once nobody else writes.
    fn claim_closing(&self) -> bool {
        let mut out = self.out.lock();
        let free = !out.writing || out.handed_over || out.stalled.is_some() || out.broken.is_some();
        out.writing |= free;
        free
    }
}

impl Flush for Connection {
    fn flush(&self) {
        let mut out = self.out.lock();
        if out.writing || !out.outbound.has_output() {
            return;
        }
        out.writing = true;
        drop(out);
        self.write_batches();
    }
}
