//! Which task writes, and when.
//!
//! With few streams the sending task itself writes, which saves a switch between tasks. With many,
//! the writer task gathers the output of all of them and writes once. In both cases one task writes
//! at a time, and checks for more output before it ends its claim, so no output is left.

use std::{
    io::{self, IoSlice},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sinew_mux::Batch;
use sinew_plane::{ACCEPTANCE_LOOK, Code, Error, ResumeReason, timeout};
use tokio::time::Instant;

use crate::connection::{Connection, MuxConnection, Tasks};

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

/// The sending side of a connection.
pub(crate) struct Writer<'a>(pub(crate) &'a MuxConnection);

impl Writer<'_> {
    fn tasks(&self) -> &Tasks {
        self.0.driver()
    }

    /// Sees to it that everything that waits is written.
    pub(crate) fn write_out(&self) {
        if self.0.active_streams() > EAGER_STREAMS {
            self.write_soon();
        } else if self.0.begin_transmit() {
            self.write_batches();
        }
    }

    /// Leaves the writing to the writer task, which first lets others add to it.
    pub(crate) fn write_soon(&self) {
        if self.0.wants_transmit() {
            self.tasks().writer.notify_one();
        }
    }

    /// Writes as the one who has claimed the writing.
    pub(crate) fn write_batches(&self) {
        for _ in 0..EAGER_BATCHES {
            let Some(mut batch) = self.next_batch() else { return };
            match self.try_write(&mut batch) {
                Written::All => self.batch_written(&mut batch),
                Written::Blocked => return self.hand_over(Some(batch)),
                Written::Failed(error) => return self.write_failed(error),
            }
        }
        self.hand_over(None);
    }

    fn hand_over(&self, stalled: Option<Batch>) {
        self.0.hand_over(stalled);
        self.tasks().writer.notify_one();
    }

    fn batch_written(&self, batch: &mut Batch) {
        self.0.transmitted(batch);
        self.tasks().written.notify_waiters();
    }

    /// The next batch, or `None` after letting go of the writing.
    fn next_batch(&self) -> Option<Batch> {
        let batch = self.0.poll_transmit();
        if batch.is_none() {
            self.tasks().written.notify_waiters();
        }
        batch
    }

    fn try_write(&self, batch: &mut Batch) -> Written {
        while !batch.is_empty() {
            match self.try_write_once(batch) {
                Ok(0) => return Written::Failed(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    self.tasks().sending.writes.fetch_add(1, Ordering::Relaxed);
                    self.tasks().sending.meter.sent(bytes);
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
            match self.tasks().sending.carrier.try_flush() {
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
            return self.tasks().sending.carrier.try_write(bytes);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = batch.fill(&mut slices);
        self.tasks().sending.carrier.try_write_vectored(&slices[..filled])
    }

    /// Nothing may follow a frame that was cut, and no stream is opened any more. The writer task
    /// ends the connection once the reader has had what arrived before.
    fn write_failed(&self, cause: io::Error) {
        let Tasks { broken, written, writer, .. } = self.tasks();
        let _ = broken.set(Arc::new(cause));
        self.0.break_off();
        written.notify_waiters();
        writer.notify_one();
    }

    /// False when the connection is over.
    async fn write_until_empty(&self) -> bool {
        loop {
            let stalled = self.0.take_stalled();
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
            let Tasks { config, sending, closed, .. } = self.tasks();
            let writable = timeout(config.write_timeout, sending.carrier.writable());
            let cause = tokio::select! {
                biased;
                () = closed.cancelled() => {
                    // Its frames are begun: the goodbye must follow their rest.
                    self.0.keep_stalled(std::mem::take(batch));
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
        self.tasks().sending.carrier.shutdown();
    }

    async fn write_rest(&self) {
        while !self.0.begin_close() {
            // A sender is in the middle of its write, which does not wait.
            tokio::task::yield_now().await;
        }
        loop {
            let stalled = self.0.take_stalled();
            let has_more = stalled.is_some();
            let mut batch = stalled.unwrap_or_else(|| self.0.take_rest());
            // One that stalled may be written and not flushed.
            if batch.is_empty() && !has_more || self.0.is_broken() {
                return;
            }
            loop {
                match self.try_write(&mut batch) {
                    Written::All => break,
                    Written::Blocked if self.tasks().sending.carrier.writable().await.is_ok() => {}
                    Written::Blocked | Written::Failed(_) => return,
                }
            }
        }
    }
}

/// The writer task: takes over what a sender could not write, and gathers what many have.
///
/// While there are streams that were admitted and not answered, it looks after them.
pub(crate) async fn run_writer(connection: Connection) {
    let tasks = connection.tasks();
    let writer = Writer(&connection.0);
    let mut look = std::pin::pin!(tokio::time::sleep(ACCEPTANCE_LOOK));
    let mut watches = false;
    loop {
        tokio::select! {
            biased;
            () = tasks.closed.cancelled() => break,
            () = tasks.writer.notified() => {}
            () = &mut look, if watches => {
                watches = connection.0.accept_admitted();
                look.as_mut().reset(Instant::now() + ACCEPTANCE_LOOK);
            }
        }
        if tasks.watch.load(Ordering::Relaxed) && tasks.watch.swap(false, Ordering::AcqRel) {
            watches = true;
            look.as_mut().reset(Instant::now() + ACCEPTANCE_LOOK);
        }
        if connection.0.is_broken() {
            break;
        }
        if !connection.0.is_handed_over() {
            // One turn through the run queue: whoever is about to send adds to this batch.
            tokio::task::yield_now().await;
        }
        if connection.0.take_over() && !writer.write_until_empty().await {
            break;
        }
    }
    close_broken(&connection).await;
    // The reader has the last word: up to which stream it has taken requests in.
    tasks.read_ended.cancelled().await;
    writer.close_gracefully().await;
}

/// Waits until the reader has read what the peer sent before the write failed, and closes.
async fn close_broken(connection: &Connection) {
    let Tasks { broken, closed, read_ended, .. } = connection.tasks();
    let Some(cause) = broken.get() else { return };
    tokio::select! {
        biased;
        () = closed.cancelled() => return,
        () = read_ended.cancelled() => return,
        () = tokio::time::sleep(LAST_READS) => {}
    }
    let message = format!("the connection broke while writing: {cause}");
    let error = Error::new(Code::ConnectionLost, message).with_source(Arc::clone(cause));
    connection.lost(&error, ResumeReason::Lost);
}
