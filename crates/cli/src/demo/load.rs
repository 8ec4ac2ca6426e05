//! The demo's requests: how many at once, what became of each, and the kill half-way.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use sinew::{Context, Outcome, PushRouter, SingleIn, Window};

use super::{
    fleet::{Fleet, WORKERS},
    progress::Progress,
    tally::Tally,
    verdict::{Check, Verdict, unanswered},
    words::{self, Range, Word},
};
use crate::exit::Failure;

/// How many requests are sent at once, and how many in that way: 300 altogether.
const PHASES: &[(usize, usize)] = &[(1, 20), (8, 60), (32, 120), (64, 100)];
/// How many requests there are.
pub(crate) const REQUESTS: usize = 300;
/// Items that a worker may be ahead of the router.
const WINDOW: Window = Window { items: 64, bytes: 64 << 10 };
/// Which worker is killed.
pub(crate) const VICTIM: usize = 1;
/// No request takes longer; a hang would show as lost.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// What all requests of the demo share.
pub(crate) struct Load {
    router: PushRouter<Range, Word>,
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
        router: PushRouter<Range, Word>,
        words: Vec<String>,
        fleet: Fleet,
        progress: Progress,
    ) -> Self {
        let router = router.with_window(WINDOW);
        let tally = Tally::new(WORKERS);
        let state = State { tally, fleet, done: 0, open: 0, killed: false, trouble: None };
        Self { router, words, progress, state: Mutex::new(state) }
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
        let context = Context::builder().timeout(REQUEST_LIMIT).build();
        let begun = Instant::now();
        let request = SingleIn::with_context(range, context);
        match self.router.generate_explained(request).await {
            Err(error) => {
                tracing::debug!(number, %error, "no stream");
                self.end(None, 0, unanswered(&error));
            }
            Ok((mut response, explanation)) => {
                let worker = explanation.instance.0 as usize - 1;
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
                self.end(Some(worker), response.received(), verdict);
            }
        }
    }

    fn first_item(&self, worker: usize, after: Duration) {
        let mut state = self.state.lock();
        state.tally.first_item(after);
        if worker == VICTIM {
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
