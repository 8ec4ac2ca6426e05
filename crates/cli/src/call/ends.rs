//! What ends a call from outside: a signal, a reader that goes away, the deadline.

use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use super::progress::Progress;
use crate::{
    exit::{Exit, Failure},
    reader::Reader,
    signals::Interrupts,
};

/// How long the handler's own end is waited for behind an interruption.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);
/// How long past the deadline the call's own report of it may take, before it is cut: output may
/// be stuck in a pipe, or a server silent.
const LATE: Duration = Duration::from_millis(25);
/// How far past the deadline the process still lives, to say goodbye to its peers.
const GOODBYE: Duration = Duration::from_millis(45);
/// The same without a deadline, or long before it. What is said is small: cancels and closes.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The deadline of the whole command, from the start of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) timeout: Duration,
    pub(crate) at: Instant,
}

impl Deadline {
    /// `None` without a timeout, or with one that does not end in this age.
    pub(crate) fn new(begun: Instant, timeout: Option<Duration>) -> Option<Self> {
        let timeout = timeout?;
        Some(Self { timeout, at: begun.checked_add(timeout)? })
    }

    /// How long may be spent on what comes behind the report.
    pub(crate) fn left_for_goodbye(deadline: Option<Self>) -> Duration {
        let until = |deadline: Self| deadline.at + GOODBYE;
        let left = |deadline| until(deadline).saturating_duration_since(Instant::now());
        deadline.map_or(LAST_WORDS, |deadline| left(deadline).min(LAST_WORDS))
    }
}

/// What ends a call from outside.
pub(crate) struct Ends {
    interrupts: Interrupts,
    reader: Reader,
    deadline: Option<Deadline>,
}

impl Ends {
    pub(crate) fn new(deadline: Option<Deadline>) -> Result<Self, Failure> {
        Ok(Self { interrupts: Interrupts::new()?, reader: Reader::stdout(), deadline })
    }

    /// Waits for the first of them. A signal, and a reader that went, cancel the request, whose
    /// own end is then waited for a little; a second signal cuts that short.
    pub(crate) async fn wait(mut self, progress: &Progress) -> Result<Exit, Failure> {
        let mut late = std::pin::pin!(late(self.deadline));
        tokio::select! {
            biased;
            () = self.interrupts.next() => {}
            () = self.reader.gone() => {}
            timeout = &mut late => return Err(progress.late(timeout)),
        }
        if progress.cancel() {
            tokio::select! {
                biased;
                () = self.interrupts.next() => {}
                () = sleep(CANCEL_LIMIT) => {}
                _ = &mut late => {}
            }
        }
        Ok(Exit::Cancelled)
    }
}

/// Ends behind the deadline, with the time that there was.
async fn late(deadline: Option<Deadline>) -> Duration {
    match deadline {
        Some(Deadline { timeout, at }) => {
            sleep_until((at + LATE).into()).await;
            timeout
        }
        None => std::future::pending().await,
    }
}
