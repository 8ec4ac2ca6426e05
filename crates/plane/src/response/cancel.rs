//! Cancels a response and waits for its end.

use std::{
    future::poll_fn,
    task::{Poll, ready},
    time::Duration,
};

use super::ResponseStream;
use crate::{
    Acknowledged, Error, Outcome, StopKind,
    acknowledged::{CANCEL_LIMIT, not_acknowledged},
    clock, timeout,
};

impl ResponseStream {
    /// Asks the producer to end, and waits for the end for at most 5 s. See
    /// [`cancel_within`](Self::cancel_within).
    ///
    /// # Errors
    /// As [`cancel_within`](Self::cancel_within).
    pub async fn cancel(&mut self, kind: StopKind) -> Result<Acknowledged, Error> {
        self.cancel_within(kind, CANCEL_LIMIT).await
    }

    /// Asks the producer of this stream, and of no other stream of its context, to end, and waits for
    /// the end. Items that are there and those that still arrive are dropped and counted. A stream
    /// that has ended keeps its outcome, at once.
    ///
    /// Cancel-safe: the producer was asked with the first poll, and items that were dropped stay so.
    ///
    /// # Errors
    /// [`Code::Cancelled`](crate::Code::Cancelled): the end did not come within `limit`. The producer
    /// is killed and the stream is over.
    pub async fn cancel_within(
        &mut self,
        kind: StopKind,
        limit: Duration,
    ) -> Result<Acknowledged, Error> {
        let (began, before) = (clock::now(), self.received);
        if self.outcome.is_none() && self.given_up.is_none() {
            self.source.cancel(kind);
        }
        let ended = poll_fn(|cx| {
            loop {
                while self.batch.pop().is_some() {
                    self.taken();
                }
                if ready!(self.poll_more(cx)).is_some() {
                    return Poll::Ready(());
                }
            }
        });
        let ended = timeout(limit, ended).await;
        match (ended, &self.outcome) {
            (Ok(()), Some(outcome)) => Ok(Acknowledged {
                outcome: Outcome::clone(outcome),
                dropped: self.received - before,
                took: clock::since(began),
            }),
            _ => Err(self.give_up(not_acknowledged(limit))),
        }
    }
}
