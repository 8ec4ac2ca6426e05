//! Waits for more bytes of a request, up to a limit.

use std::{io, time::Duration};

use bytes::BytesMut;
use sinew_net::read_without_buffer;
use sinew_plane::{Code, Error};
use tokio::{io::AsyncReadExt, time::Instant};

use super::{End, Serving};

/// Room for one read. A larger frame asks for more as it arrives.
const READ_BYTES: usize = 32 << 10;

/// The time that an unfinished frame has to come along in while the memory budget is spent.
const PRESSED: Duration = Duration::from_secs(5);

/// Bytes of an unfinished frame that must arrive within `frame_timeout`, unless its rest is
/// shorter: with the default, 2 KiB a second.
const PROGRESS_BYTES: usize = 64 << 10;

/// An idle connection lets go of its read buffer after this time.
const BUFFER_KEPT: Duration = Duration::from_secs(1);

/// How an unfinished frame comes along.
pub(super) struct Progress {
    since: Instant,
    /// Bytes of the frame that were there at `since`.
    at: usize,
    /// The same for the last look, which is more often.
    looked: (Instant, usize),
}

impl Progress {
    /// From now on, with so many bytes there.
    pub(super) fn from(now: Instant, at: usize) -> Self {
        Self { since: now, at, looked: (now, at) }
    }
}

impl Serving<'_> {
    /// Waits for more bytes and reads them.
    pub(super) async fn more(&mut self) -> Result<(), End> {
        loop {
            let (since, limit) = if !self.buffer.is_empty() || self.skip > 0 {
                (self.progress.looked.0, self.plane.config.frame_timeout.min(PRESSED))
            } else if self.buffer.capacity() > 0 {
                (self.idle_since, BUFFER_KEPT)
            } else {
                // Twice: the side that dialled knows whether a request is on its way, so it is to
                // hang up first.
                (self.idle_since, self.plane.config.idle_timeout * 2)
            };
            let leave = self.place.leave().clone();
            let read = tokio::select! {
                biased;
                () = leave.cancelled() => return Err(End::Shutdown),
                read = self.read() => read,
                () = tokio::time::sleep_until(since + limit) => {
                    self.waited()?;
                    continue;
                }
            };
            match read {
                Ok(0) => return Err(End::Over),
                Ok(bytes) => {
                    self.meter.received(bytes);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(End::Lost(error)),
            }
        }
    }

    /// What a wait that has come to its limit means.
    fn waited(&mut self) -> Result<(), End> {
        if !self.buffer.is_empty() || self.skip > 0 {
            return self.check_progress();
        }
        if self.buffer.capacity() > 0 {
            self.let_go();
            self.answers = BytesMut::new();
            return Ok(());
        }
        Err(End::Over)
    }

    /// Refuses an unfinished request that does not come along.
    fn check_progress(&mut self) -> Result<(), End> {
        let (now, len, limit) =
            (Instant::now(), self.buffer.len(), self.plane.config.frame_timeout);
        let over = now.duration_since(self.progress.since) >= limit;
        // It was refused already, and its rest does not come.
        if self.skip > 0 && over {
            return Err(End::Over);
        }
        let refusal = self.account.as_ref().and_then(|account| account.budget().admit().err());
        if let Some(refusal) = refusal
            && len.saturating_sub(self.progress.looked.1) < PROGRESS_BYTES
            && self.skip == 0
        {
            return Err(End::Refused(refusal));
        }
        self.progress.looked = (now, len);
        if over {
            if len - self.progress.at < PROGRESS_BYTES {
                let message = format!("a request was begun and not finished within {limit:?}");
                return Err(End::Refused(Error::new(Code::Violation, message)));
            }
            self.progress = Progress::from(now, len);
        }
        Ok(())
    }

    /// Waits for bytes and reads once. Cancel-safe.
    pub(super) async fn read(&mut self) -> io::Result<usize> {
        if self.buffer.capacity() == 0 {
            let bytes = read_without_buffer(&mut self.read, &mut self.buffer).await?;
            self.progress = Progress::from(Instant::now(), 0);
            return Ok(bytes);
        }
        if self.buffer.is_empty() {
            self.buffer.reserve(READ_BYTES);
            let bytes = self.read.read_buf(&mut self.buffer).await?;
            self.progress = Progress::from(Instant::now(), 0);
            return Ok(bytes);
        }
        if self.buffer.capacity() == self.buffer.len() {
            // The codec asks for the room that an unfinished frame wants, except for the last few
            // bytes of it.
            self.buffer.reserve(READ_BYTES);
        }
        self.read.read_buf(&mut self.buffer).await
    }
}
