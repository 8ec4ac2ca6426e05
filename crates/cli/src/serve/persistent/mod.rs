//! One process for all requests, restarted when it ends.

mod exchange;
mod output_queue;
mod process_run;
mod wire;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sinew::{Code, Error, IncomingOwned, ResponseSink, layers::plane::budget::Account};
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    exchange::Passing,
    process_run::{Ending, Entry, InputLine, ProcessRun, live},
    wire::LineFormat,
};
use super::{
    charge::charged,
    process::{CommandLine, Process},
};

/// Wait before the first restart; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait before a restart: short for whoever mends the command, long for the machine.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A run this long counts as a success: the next wait is the first again.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Answers all requests with one process. It owns one task, which ends with
/// [`close`](Self::close).
pub(crate) struct Persistent {
    command: CommandLine,
    state: Mutex<State>,
    ending: Ending,
    /// For the lines that wait, and what the process is ahead of its callers.
    account: Arc<Account>,
}

enum State {
    Alive(Arc<ProcessRun>),
    /// Between two lives, until then.
    Waiting(Instant),
}

impl Persistent {
    /// Starts the process, and the task that keeps it running.
    pub(crate) fn start(
        command: CommandLine,
        kill_grace: Duration,
        cut: CancellationToken,
        tasks: &TaskTracker,
        account: Arc<Account>,
    ) -> io::Result<Arc<Self>> {
        let process = command.spawn(true)?;
        let ending = Ending { close: CancellationToken::new(), cut, kill_grace };
        let state = Mutex::new(State::Waiting(Instant::now()));
        let persistent = Arc::new(Self { command, state, ending, account });
        tasks.spawn(Arc::clone(&persistent).keep_running(process));
        Ok(persistent)
    }

    /// No request comes any more: closes the process's input and lets it end.
    pub(crate) fn close(&self) {
        self.ending.close.cancel();
    }

    /// Answers one request: the returned future passes on what the process says. There is one
    /// of it for each stream that is open, so it holds nothing but what it needs until then.
    pub(crate) fn answer(
        &self,
        request: IncomingOwned,
        sink: ResponseSink,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let (entry, line) = match self.begin(&request) {
            Ok(begun) => begun,
            Err(error) => {
                sink.reject(error);
                return None;
            }
        };
        // What it holds is in the line.
        drop(request);
        let line = match entry.run.try_send(line) {
            Ok(()) => None,
            Err(TrySendError::Full(line)) => Some(Box::new((line, self.ended()))),
            Err(TrySendError::Closed(_)) => {
                sink.reject(self.ended());
                return None;
            }
        };
        let mut passing = Passing::new(entry, sink, self.ending.kill_grace);
        Some(async move {
            if let Some(line) = line {
                // Boxed: it is rare that the process does not read.
                match Box::pin(passing.hand_over(line.0)).await {
                    Some(true) => {}
                    Some(false) => return passing.reject(line.1),
                    None => return,
                }
            }
            if let Some(end) = passing.run().await {
                passing.finish(end);
            }
        })
    }

    /// A place for a request, and its line.
    fn begin(&self, request: &IncomingOwned) -> Result<(Entry, InputLine), Error> {
        let format = LineFormat::of(request.context.headers())?;
        let run = match &*self.state.lock() {
            State::Alive(run) => Arc::clone(run),
            State::Waiting(until) => return Err(self.restarting(*until)),
        };
        let entry = run.open(format);
        let line = charged(format.request(entry.id, &request.body)?, Some(&self.account))?;
        let line = InputLine::Request { line, exchange: Arc::clone(&entry.exchange) };
        Ok((entry, line))
    }

    fn ended(&self) -> Error {
        self.restarting(Instant::now() + FIRST_WAIT)
    }

    fn restarting(&self, until: Instant) -> Error {
        let message = format!("{} has ended and is being restarted", self.command.name());
        let wait = until.saturating_duration_since(Instant::now()).max(FIRST_WAIT);
        Error::new(Code::Overloaded, message).with_retry_after(wait)
    }

    async fn keep_running(self: Arc<Self>, first: Process) {
        let mut process = Some(first);
        let mut wait = FIRST_WAIT;
        loop {
            let begun = Instant::now();
            let why = match process.take().map_or_else(|| self.command.spawn(true), Ok) {
                Ok(process) => self.one_life(process).await,
                Err(error) => format!("{} cannot be started: {error}", self.command.name()),
            };
            if self.is_over() {
                return;
            }
            if begun.elapsed() >= STABLE_AFTER {
                wait = FIRST_WAIT;
            }
            tracing::warn!("{why}; starting it again in {wait:?}");
            *self.state.lock() = State::Waiting(Instant::now() + wait);
            tokio::select! {
                biased;
                () = self.ending.close.cancelled() => return,
                () = self.ending.cut.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }

    async fn one_life(&self, process: Process) -> String {
        let (run, lines) = ProcessRun::new(Arc::clone(&self.account));
        let run = Arc::new(run);
        *self.state.lock() = State::Alive(Arc::clone(&run));
        let why = live(&run, lines, &self.command, process, &self.ending).await;
        // Out of reach first, so that no request joins a run that is over.
        *self.state.lock() = State::Waiting(Instant::now() + FIRST_WAIT);
        run.fail_all(&why);
        why
    }

    fn is_over(&self) -> bool {
        self.ending.close.is_cancelled() || self.ending.cut.is_cancelled()
    }
}
