//! Looking at where a response comes from, and at the limits while there is nothing.

use std::{
    task::{self, Poll},
    time::Instant,
};

use parking_lot::MutexGuard;
use sinew_plane::{
    CancelReason, Error, ItemBatch, ResponseSource, SourceEvent, StopKind, Terminal, clock,
    second_look,
};

use super::{Phase, REOPENS, Source, State};
use crate::call_home::{
    end::{Cancel, End, ended, gone},
    limits::Due,
    line::Found,
};

enum Look {
    Begun,
    Items,
    /// It ended just now; the worker is to be killed, or knows.
    End(End, bool),
    /// It ended before, as was seen already.
    Over(End),
    /// It ended before it began, on a shared connection.
    Refused(Error),
    LostEarly,
}

pub(super) enum Step {
    Begun,
    Items,
    End(End),
    Refused(Error),
}

impl Source {
    /// One look at where the stream comes from. `None`: nothing yet, and the waker is kept.
    fn look(
        &self,
        state: &mut State,
        cx: &mut task::Context<'_>,
        batch: Option<&mut ItemBatch>,
    ) -> Option<Look> {
        match &mut state.phase {
            Phase::Expected => None,
            Phase::Plain(line) => match line.poll(cx, batch) {
                Poll::Pending => None,
                Poll::Ready(Found::Begun) => Some(Look::Begun),
                Poll::Ready(Found::Items) => Some(Look::Items),
                Poll::Ready(Found::End(end)) => {
                    let (end, kill) = ended(line, end, state.clocks.cancelled, &self.request);
                    Some(Look::End(end, kill))
                }
            },
            Phase::Shared(call) => {
                let polled = match batch {
                    Some(batch) => call.poll_batch(cx, batch).map(|event| match event {
                        SourceEvent::Items => Look::Items,
                        SourceEvent::Ended(terminal) => Look::End(End::Terminal(terminal), false),
                        SourceEvent::Lost(error) => Look::End(End::Lost(error), false),
                    }),
                    None => call.poll_started(cx).map(|started| match started {
                        Ok(()) => Look::Begun,
                        Err(error) => Look::Refused(error),
                    }),
                };
                match polled {
                    Poll::Pending => None,
                    Poll::Ready(Look::End(..) | Look::Refused(_)) if call.is_lost_early() => {
                        Some(Look::LostEarly)
                    }
                    Poll::Ready(look) => Some(look),
                }
            }
            Phase::Ended(end) => Some(Look::Over(end.clone())),
        }
    }

    pub(super) fn poll(
        self: &Source,
        cx: &mut task::Context<'_>,
        mut batch: Option<&mut ItemBatch>,
    ) -> Poll<Step> {
        loop {
            let mut state = self.state.lock();
            match self.look(&mut state, cx, batch.as_deref_mut()) {
                Some(Look::Begun) => {
                    state.grace = None;
                    return Poll::Ready(Step::Begun);
                }
                Some(Look::Items) => {
                    state.grace = None;
                    state.clocks.hungry = None;
                    return Poll::Ready(Step::Items);
                }
                Some(Look::Over(end)) => return Poll::Ready(Step::End(end)),
                Some(Look::Refused(error)) => return Poll::Ready(Step::Refused(error)),
                Some(Look::End(end, kill)) => {
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
                state.clocks.look(self.shared.config.item_timeout);
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
        let cancelled = state.clocks.cancelled;
        if state.reopens > REOPENS || cancelled.is_some() {
            let end = match cancelled {
                Some(Cancel { reason, .. }) => End::Terminal(Terminal::Cancelled { reason }),
                None => End::Lost(gone("the worker's connections broke")),
            };
            return self.finish(state, end, false);
        }
        state.phase = Phase::Expected;
        state.clocks.lost = Some(clock::now());
        drop(state);
        self.shared.seek(self.subject);
    }

    /// The limit that was reached, if one was; else the timer is set for the next.
    fn poll_timer(&self, state: &mut State, cx: &mut task::Context<'_>) -> Option<Due> {
        let (at, due) = self.next_limit(state)?;
        let now = clock::now();
        let mut at = at;
        if at <= now {
            // What arrived while this process did not run is read before the worker is judged.
            let late = second_look(at.into(), now.into()).filter(|_| !matches!(due, Due::Deadline));
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

    fn next_limit(&self, state: &State) -> Option<(Instant, Due)> {
        let is_shared = matches!(state.phase, Phase::Shared(_));
        let deadline = self.request.context.deadline();
        state.clocks.next(state.stage(), is_shared, deadline, &self.shared.config)
    }

    fn give_up(&self, state: MutexGuard<'_, State>, due: Due) {
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
