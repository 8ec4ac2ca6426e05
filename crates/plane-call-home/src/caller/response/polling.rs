//! Polls a response's connection, and its time limits while no item is there.

use std::{
    task::{self, Poll},
    time::Instant,
};

use parking_lot::MutexGuard;
use sinew_plane::{
    CancelReason, Error, ResponseSource, SourceEvent, StopKind, Terminal, clock, second_look,
};

use super::{Phase, REOPENS, Response, State};
use crate::caller::{
    limits::ExpiredLimit,
    outcome::{Cancel, Outcome, ended, gone},
    response_connection::{ReadEvent, ReadUntil},
};

enum Look {
    /// The start or the head is there.
    Ready,
    Items,
    /// It ended just now; the worker is to be killed, or knows.
    Outcome(Outcome, bool),
    /// It ended before, as was seen already.
    Over(Outcome),
    /// It ended before it began, on a shared connection.
    Refused(Error),
    LostEarly,
}

pub(super) enum Step {
    Ready,
    Items,
    Outcome(Outcome),
    Refused(Error),
}

impl Response {
    /// One look at where the stream comes from. `None`: nothing yet, and the waker is kept.
    fn look(
        &self,
        state: &mut State,
        cx: &mut task::Context<'_>,
        until: ReadUntil<'_>,
    ) -> Option<Look> {
        match &mut state.phase {
            Phase::Expected => None,
            Phase::Plain(connection) => match connection.poll(cx, until) {
                Poll::Pending => None,
                Poll::Ready(ReadEvent::Ready) => Some(Look::Ready),
                Poll::Ready(ReadEvent::Items) => Some(Look::Items),
                Poll::Ready(ReadEvent::Outcome(end)) => {
                    let (end, kill) = ended(connection, end, state.timers.cancelled, &self.request);
                    Some(Look::Outcome(end, kill))
                }
            },
            Phase::Shared(call) => {
                let polled = match until {
                    ReadUntil::Items(batch) => {
                        call.poll_batch(cx, batch).map(|event| match event {
                            SourceEvent::Items => Look::Items,
                            SourceEvent::Ended(terminal) => {
                                Look::Outcome(Outcome::Terminal(terminal), false)
                            }
                            SourceEvent::Lost(error) => Look::Outcome(Outcome::Lost(error), false),
                        })
                    }
                    ReadUntil::Start => call.poll_started(cx).map(|started| match started {
                        Ok(()) => Look::Ready,
                        Err(error) => Look::Refused(error),
                    }),
                    ReadUntil::Head => call
                        .poll_head(cx)
                        .map(|_| if call.is_lost_early() { Look::LostEarly } else { Look::Ready }),
                };
                match polled {
                    Poll::Pending => None,
                    Poll::Ready(Look::Outcome(..) | Look::Refused(_)) if call.is_lost_early() => {
                        Some(Look::LostEarly)
                    }
                    Poll::Ready(look) => Some(look),
                }
            }
            Phase::Ended(end) => Some(Look::Over(end.clone())),
        }
    }

    pub(super) fn poll(
        self: &Response,
        cx: &mut task::Context<'_>,
        mut until: ReadUntil<'_>,
    ) -> Poll<Step> {
        loop {
            let mut state = self.state.lock();
            match self.look(&mut state, cx, until.reborrow()) {
                Some(Look::Ready) => {
                    state.grace = None;
                    return Poll::Ready(Step::Ready);
                }
                Some(Look::Items) => {
                    state.grace = None;
                    state.timers.hungry = None;
                    return Poll::Ready(Step::Items);
                }
                Some(Look::Over(end)) => return Poll::Ready(Step::Outcome(end)),
                Some(Look::Refused(error)) => return Poll::Ready(Step::Refused(error)),
                Some(Look::Outcome(end, kill)) => {
                    self.finish(state, end, kill);
                    continue;
                }
                Some(Look::LostEarly) => {
                    self.seek_again(state);
                    continue;
                }
                None => {}
            }
            if state.has_begun() {
                state.timers.look(self.shared.config.item_timeout);
            }
            let Some(due) = self.poll_timer(&mut state, cx) else {
                state.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            self.give_up(state, due);
        }
    }

    /// The shared connection broke before the stream began on it: another one may do.
    fn seek_again(&self, mut state: MutexGuard<'_, State>) {
        state.reopens += 1;
        let cancelled = state.timers.cancelled;
        if state.reopens > REOPENS || cancelled.is_some() {
            let end = match cancelled {
                Some(Cancel { reason, .. }) => Outcome::Terminal(Terminal::Cancelled { reason }),
                None => Outcome::Lost(gone("the worker's connections broke")),
            };
            return self.finish(state, end, false);
        }
        state.phase = Phase::Expected;
        state.timers.lost = Some(clock::now());
        drop(state);
        self.shared.request_stream(self.subject);
    }

    /// The limit that was reached, if one was; else the timer is set for the next.
    fn poll_timer(&self, state: &mut State, cx: &mut task::Context<'_>) -> Option<ExpiredLimit> {
        let (at, due) = self.next_limit(state)?;
        let now = clock::now();
        let mut at = at;
        if at <= now {
            // What arrived while this process did not run is read before the worker is judged.
            let late = second_look(at.into(), now.into())
                .filter(|_| !matches!(due, ExpiredLimit::Deadline));
            let Some(later) = late else { return Some(due) };
            at = *state.grace.get_or_insert(later.into_std());
            if at <= now {
                return Some(due);
            }
        }
        let at = tokio::time::Instant::from_std(at);
        let timer = match &mut state.timer {
            Some(timer) => {
                if timer.deadline() != at {
                    timer.as_mut().reset(at);
                }
                timer
            }
            None => {
                // The consumer may poll from outside the runtime.
                let _runtime = self.shared.runtime.enter();
                state.timer.insert(Box::pin(tokio::time::sleep_until(at)))
            }
        };
        timer.as_mut().poll(cx).is_ready().then_some(due)
    }

    fn next_limit(&self, state: &State) -> Option<(Instant, ExpiredLimit)> {
        let is_shared = matches!(state.phase, Phase::Shared(_));
        let deadline = self.request.context.deadline();
        state.timers.next(state.stage(), is_shared, deadline, &self.shared.config)
    }

    fn give_up(&self, state: MutexGuard<'_, State>, due: ExpiredLimit) {
        match due.end(&self.shared.config) {
            Some((end, kill)) => self.finish(state, end, kill),
            None => {
                drop(state);
                // Comes back to this stream, which then waits for the worker to have ended.
                let reason = CancelReason::DeadlineExceeded;
                self.request.context.cancel(StopKind::Kill, reason);
                self.ask_to_end(StopKind::Kill, reason);
            }
        }
    }
}
