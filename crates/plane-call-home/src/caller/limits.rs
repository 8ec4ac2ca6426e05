//! The time limits of an expected stream, and how it ends when one passes.

use std::time::{Duration, Instant};

use sinew_plane::{Code, Error, Executed, StopKind, Terminal, clock};

use super::outcome::{Cancel, Outcome, gone};
use crate::config::CheckedTcpStreamServerConfig;

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No connection carries it.
    Expected,
    /// One does, and the handler has not begun.
    Attached,
    Begun,
}

/// Since when what has been waited for.
pub(crate) struct Timers {
    /// What comes next before the stream begins: the worker, then the beginning.
    pub(crate) since: Instant,
    /// Another shared connection of the worker: one broke before the stream began on it. Counts
    /// until there is a connection again.
    pub(crate) lost: Option<Instant>,
    /// The item that the consumer wants.
    pub(crate) hungry: Option<Instant>,
    pub(crate) cancelled: Option<Cancel>,
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ExpiredLimit {
    /// The worker did not do what it was asked to in time.
    Cancel(Cancel),
    Deadline,
    /// No shared connection came in place of the one that was lost.
    Connection,
    Worker,
    Prologue,
    Item,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { since: clock::now(), lost: None, hungry: None, cancelled: None }
    }

    /// The consumer looks for an item. Who waits is woken when the limit is reached, so a look that
    /// comes long behind it is of one who was away meanwhile, and has waited from now on.
    pub(crate) fn look(&mut self, limit: Option<Duration>) {
        let now = clock::now();
        let since = *self.hungry.get_or_insert(now);
        if limit.is_some_and(|limit| now.duration_since(since) > limit + limit / 4) {
            self.hungry = Some(now);
        }
    }

    /// The limit that is reached first. `is_shared`: the connection carries other streams too.
    pub(crate) fn next(
        &self,
        stage: Stage,
        is_shared: bool,
        deadline: Option<Instant>,
        config: &CheckedTcpStreamServerConfig,
    ) -> Option<(Instant, ExpiredLimit)> {
        let cancel = self.cancelled.and_then(|cancel| {
            // A shared connection answers for itself until the stream begins: it is watched.
            let is_kill = cancel.kind == StopKind::Kill;
            let limited = is_kill || (stage != Stage::Begun && !is_shared);
            limited.then(|| {
                Some((later(cancel.since, config.cancel_timeout)?, ExpiredLimit::Cancel(cancel)))
            })
        });
        let deadline = deadline.filter(|_| self.cancelled.is_none());
        let wait = match stage {
            Stage::Expected => Some((self.since, config.prologue_timeout, ExpiredLimit::Worker)),
            Stage::Attached => Some((self.since, config.prologue_timeout, ExpiredLimit::Prologue)),
            Stage::Begun => {
                let limit = self.hungry.zip(config.item_timeout);
                limit.map(|(since, limit)| (since, limit, ExpiredLimit::Item))
            }
        };
        let lost = self.lost.filter(|_| stage == Stage::Expected);
        let lost = lost.and_then(|since| later(since, config.driver.open_timeout));
        let limits = [
            cancel.flatten(),
            deadline.map(|at| (at, ExpiredLimit::Deadline)),
            lost.map(|at| (at, ExpiredLimit::Connection)),
            wait.and_then(|(since, limit, due)| Some((later(since, limit)?, due))),
        ];
        limits.into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

impl ExpiredLimit {
    /// How the stream ends, and whether the worker is to be killed. `None` for the deadline, of
    /// which the worker is told first.
    pub(crate) fn end(self, config: &CheckedTcpStreamServerConfig) -> Option<(Outcome, bool)> {
        let error = match self {
            Self::Deadline => return None,
            Self::Cancel(Cancel { kind, reason, .. }) => {
                let end = Outcome::Terminal(Terminal::Cancelled { reason });
                return Some((end, kind == StopKind::Stop));
            }
            Self::Connection => gone(format!(
                "the worker's connection was lost before its response began, and there was no \
                 other within {:?}",
                config.driver.open_timeout
            )),
            Self::Worker => late("the worker did not dial back", config.prologue_timeout),
            Self::Prologue => {
                late("the worker dialled back and did not begin", config.prologue_timeout)
            }
            Self::Item => Error::new(Code::Truncated, "the worker sent no item for too long"),
        };
        Some((Outcome::Lost(error), true))
    }
}

fn late(what: &str, limit: Duration) -> Error {
    let error = Error::new(Code::ConnectTimedOut, format!("{what} within {limit:?}"));
    error.with_executed(Executed::Maybe)
}

fn later(since: Instant, limit: Duration) -> Option<Instant> {
    since.checked_add(limit)
}

#[cfg(test)]
mod tests {
    use sinew_plane::CancelReason;

    use super::*;
    use crate::TcpStreamServerConfig;

    const LIMIT: Duration = Duration::from_secs(1);

    fn ago(time: Duration) -> Instant {
        Instant::now().checked_sub(time).unwrap()
    }

    #[test]
    fn a_consumer_that_was_away_has_waited_from_its_return_on() {
        let mut timers = Timers::new();
        let waiting = ago(LIMIT / 2);
        timers.hungry = Some(waiting);
        timers.look(Some(LIMIT));
        assert_eq!(timers.hungry, Some(waiting), "who waits goes on waiting");
        timers.hungry = Some(ago(LIMIT * 10));
        timers.look(Some(LIMIT));
        assert!(timers.hungry.unwrap().elapsed() < LIMIT, "who was away begins anew");
        timers.hungry = Some(waiting);
        timers.look(None);
        assert_eq!(timers.hungry, Some(waiting));
    }

    #[test]
    fn a_kill_has_a_limit_on_every_connection_and_a_stop_of_a_begun_stream_has_none() {
        let config = TcpStreamServerConfig::default().checked().unwrap();
        for is_shared in [false, true] {
            for (kind, limited) in [(StopKind::Kill, true), (StopKind::Stop, false)] {
                let mut timers = Timers::new();
                let reason = CancelReason::Caller;
                timers.cancelled = Some(Cancel { kind, reason, since: Instant::now() });
                let next = timers.next(Stage::Begun, is_shared, None, &config);
                let is_cancel = matches!(next, Some((_, ExpiredLimit::Cancel(_))));
                assert_eq!(is_cancel, limited, "{kind:?}, shared: {is_shared}");
            }
        }
    }
}
