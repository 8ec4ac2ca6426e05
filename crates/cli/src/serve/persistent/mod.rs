//! One process for all requests, restarted when it ends.

mod exchange;
mod life;
mod mailbox;
mod wire;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sinew::{Code, Error, IncomingOwned, ResponseSink, layers::plane::budget::Account};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    life::{Ending, Life, Line, live},
    wire::Speech,
};
use super::{
    charge::charged,
    process::{CommandLine, Process},
};

/// Wait before the first restart; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait before a restart: short for whoever mends the command, long for the machine.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A life this long counts as a success: the next wait is the first again.
const GOOD_LIFE: Duration = Duration::from_secs(10);

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
    Alive(Arc<Life>),
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

    /// Answers one request.
    pub(crate) async fn answer(&self, request: IncomingOwned, sink: ResponseSink) {
        let speech = match Speech::of(request.context.headers()) {
            Ok(speech) => speech,
            Err(error) => return sink.reject(error),
        };
        let life = match &*self.state.lock() {
            State::Alive(life) => Ok(Arc::clone(life)),
            State::Waiting(until) => Err(self.restarting(*until)),
        };
        let life = match life {
            Ok(life) => life,
            Err(error) => return sink.reject(error),
        };
        let entry = life.open(speech);
        let line = speech.request(entry.id, &request.body);
        let IncomingOwned { context, body, .. } = request;
        // It is in the line.
        drop(body);
        let line = match line.and_then(|line| charged(line, Some(&self.account))) {
            Ok(line) => line,
            Err(error) => return sink.reject(error),
        };
        let line = Line::Request { line, exchange: Arc::clone(&entry.exchange) };
        let sent = tokio::select! {
            biased;
            () = context.stopped() => return,
            sent = life.send(line) => sent,
        };
        if !sent {
            return sink.reject(self.restarting(Instant::now() + FIRST_WAIT));
        }
        exchange::pass_on(entry, sink, self.ending.kill_grace).await;
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
            if begun.elapsed() >= GOOD_LIFE {
                wait = FIRST_WAIT;
            }
            tracing::warn!("{why}; starting it again in {wait:?}");
            *self.state.lock() = State::Waiting(Instant::now() + wait);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.ending.close.cancelled() => return,
                () = self.ending.cut.cancelled() => return,
            }
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }

    async fn one_life(&self, process: Process) -> String {
        let (life, lines) = Life::new(Arc::clone(&self.account));
        let life = Arc::new(life);
        *self.state.lock() = State::Alive(Arc::clone(&life));
        let why = live(&life, lines, &self.command, process, &self.ending).await;
        // Out of reach first, so that no request joins a life that is over.
        *self.state.lock() = State::Waiting(Instant::now() + FIRST_WAIT);
        life.fail_all(&why);
        why
    }

    fn is_over(&self) -> bool {
        self.ending.close.is_cancelled() || self.ending.cut.is_cancelled()
    }
}
