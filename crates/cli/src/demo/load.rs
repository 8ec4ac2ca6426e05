//! The demo's requests: how many at once, what became of each, the kill half-way, and the router
//! that takes over from there.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use sinew::{Context, Outcome, SingleIn};
use tokio::sync::OnceCell;

use super::{
    caller::Caller,
    fleet::{Fleet, WORKERS},
    progress::Progress,
    tally::Tally,
    verdict::{Check, Verdict, unanswered},
    words,
};
use crate::exit::Failure;

/// How many requests are sent at once, and how many in that way: 300 altogether.
const PHASES: &[(usize, usize)] = &[(1, 20), (8, 60), (32, 120), (64, 100)];
/// How many requests there are.
pub(crate) const REQUESTS: usize = 300;
/// Which worker is killed.
pub(crate) const VICTIM: usize = 1;
/// No request takes longer; a hang would show as lost.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// How long a killed worker may take to be gone: it is the kernel's work alone.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// What all requests of the demo share.
pub(crate) struct Load {
    /// Up to the kill, and from there on.
    callers: [Caller; 2],
    /// Set once the killed worker is gone.
    gone: OnceCell<()>,
    words: Vec<String>,
    progress: Progress,
    state: Mutex<State>,
}

struct State {
    tally: Tally,
    fleet: Fleet,
    done: usize,
    /// Streams of the victim that have begun and not ended.
    open: usize,
    killed: bool,
    trouble: Option<Failure>,
}

impl Load {
    pub(crate) fn new(
        callers: [Caller; 2],
        words: Vec<String>,
        fleet: Fleet,
        progress: Progress,
    ) -> Self {
        let tally = Tally::new(WORKERS);
        let state = State { tally, fleet, done: 0, open: 0, killed: false, trouble: None };
        Self { callers, gone: OnceCell::new(), words, progress, state: Mutex::new(state) }
    }

    /// Sends all requests. Returns what became of them, and the workers that are left.
    pub(crate) async fn run(self) -> Result<(Tally, Fleet, Duration), Failure> {
        let load = &self;
        let begun = Instant::now();
        let mut first = 0;
        for (concurrency, count) in PHASES {
            load.progress.phase(*concurrency);
            let requests = stream::iter(first..first + count);
            requests.for_each_concurrent(*concurrency, |number| load.request(number)).await;
            first += count;
        }
        let took = begun.elapsed();
        load.progress.finish();
        let State { tally, fleet, trouble, .. } = self.state.into_inner();
        match trouble {
            Some(trouble) => Err(trouble),
            None => Ok((tally, fleet, took)),
        }
    }

    async fn request(&self, number: usize) {
        let range = words::range(number, self.words.len());
        let caller = self.caller().await;
        let context = Context::builder().timeout(REQUEST_LIMIT).build();
        let begun = Instant::now();
        let request = SingleIn::with_context(range, context);
        match caller.router().generate_explained(request).await {
            Err(error) => {
                tracing::debug!(number, %error, "no stream");
                self.end(None, 0, unanswered(&error));
            }
            Ok((mut response, explanation)) => {
                let worker = caller.worker(explanation.instance);
                if !explanation.attempts.is_empty() {
                    self.state.lock().tally.failed_over += 1;
                }
                let mut check = Check::new(&self.words, range);
                while let Some(word) = response.next().await {
                    let Ok(word) = word else { break };
                    if response.received() == 1 {
                        self.first_item(worker, begun.elapsed());
                    }
                    check.word(&word);
                }
                let complete = Outcome::Complete { items: response.received() };
                let verdict = check.end(response.outcome().unwrap_or(&complete));
                self.end(worker, response.received(), verdict);
            }
        }
    }

    /// The router for the next request. Once the worker is killed and gone it is the one that does
    /// not know it: within its first round it asks the dead worker, is refused, and fails over. The
    /// first router may never ask it again, because it has seen streams break there, and discovery
    /// the end of the process.
    async fn caller(&self) -> &Caller {
        let [first, second] = &self.callers;
        if !self.state.lock().killed {
            return first;
        }
        self.gone.get_or_init(|| self.victim_gone()).await;
        second
    }

    async fn victim_gone(&self) {
        let gone = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            while !self.state.lock().fleet.is_gone(VICTIM) {
                ticks.tick().await;
            }
        };
        // Past the limit it is asked all the same, and may answer: the table shows it.
        let _ = tokio::time::timeout(GONE_LIMIT, gone).await;
        self.progress.say("from here on a router sends that has not seen the kill");
    }

    fn first_item(&self, worker: Option<usize>, after: Duration) {
        let mut state = self.state.lock();
        state.tally.first_item(after);
        if worker == Some(VICTIM) {
            state.open += 1;
            self.kill_half_way(&mut state);
        }
    }

    fn end(&self, worker: Option<usize>, items: u64, verdict: Verdict) {
        let mut state = self.state.lock();
        state.tally.end(worker, items, verdict);
        if worker == Some(VICTIM) && items > 0 {
            state.open -= 1;
        }
        state.done += 1;
        self.progress.done(state.done);
    }

    /// Kills the victim once half of the requests are done, at the first item of one of its
    /// streams: the window keeps the worker from being through with that one already.
    fn kill_half_way(&self, state: &mut State) {
        if state.killed || state.done < REQUESTS / 2 {
            return;
        }
        state.killed = true;
        let (done, open) = (state.done, state.open);
        if let Err(trouble) = state.fleet.kill(VICTIM) {
            state.trouble = Some(trouble);
        }
        self.progress.say(&format!(
            "after {done} requests: SIGKILL to worker {}, with {open} of its streams midway",
            VICTIM + 1
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_add_up() {
        assert_eq!(PHASES.iter().map(|(_, count)| count).sum::<usize>(), REQUESTS);
    }
}
