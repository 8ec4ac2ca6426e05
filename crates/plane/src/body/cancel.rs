//! Cancels a response and waits for its end.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use futures_core::Stream;

use super::Body;
use crate::{
    Acknowledged, CancelReason, Error, StopKind,
    acknowledged::{CANCEL_LIMIT, not_acknowledged},
    clock, timeout,
};

impl<T> Body<T> {
    /// Asks for the end of the response, and waits for it for at most 5 s. See
    /// [`cancel_within`](Self::cancel_within).
    ///
    /// # Errors
    /// As [`cancel_within`](Self::cancel_within).
    pub async fn cancel(&mut self, kind: StopKind) -> Result<Acknowledged, Error> {
        self.cancel_within(kind, CANCEL_LIMIT).await
    }

    /// Stops or kills the request of this response, with all that share its context, and waits for
    /// the end. Values that are there and those that still come are dropped and counted. A response
    /// that has ended keeps its outcome, at once. Cancel-safe: the request was cancelled with the
    /// first poll, and values that were dropped stay so.
    ///
    /// # Errors
    /// [`Code::Cancelled`](crate::Code::Cancelled): the end did not come within `limit`. The request
    /// is killed, and the response may be polled on.
    pub async fn cancel_within(
        &mut self,
        kind: StopKind,
        limit: Duration,
    ) -> Result<Acknowledged, Error> {
        let (began, before) = (clock::now(), self.received);
        if self.outcome.is_none() {
            self.context.cancel(kind, CancelReason::Caller);
        }
        let ended = poll_fn(|cx| {
            while self.outcome.is_none() {
                if Pin::new(&mut *self).poll_next(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        });
        let ended = timeout(limit, ended).await;
        match (ended, &self.outcome) {
            (Ok(()), Some(outcome)) => Ok(Acknowledged {
                outcome: outcome.clone(),
                dropped: self.received - before,
                took: clock::since(began),
            }),
            _ => {
                self.context.cancel(StopKind::Kill, CancelReason::Caller);
                Err(not_acknowledged(limit))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;
    use crate::{Code, Context, Outcome};

    /// Three values, and the end once the request is stopped; without `ends`, none.
    fn body(ends: bool) -> Body<u32> {
        let context = Context::new();
        let handed = context.clone();
        let end = stream::once(async move {
            handed.stopped().await;
            if !ends {
                std::future::pending::<()>().await;
            }
        });
        let values = stream::iter([1, 2, 3]).map(Ok);
        Body::new(values.chain(end.filter_map(|()| async { None })).boxed(), context)
    }

    #[tokio::test]
    async fn the_end_and_the_number_of_dropped_values_come_back() {
        let mut body = body(true);
        assert_eq!(body.next().await.unwrap().unwrap(), 1);
        let ended = body.cancel(StopKind::Stop).await.unwrap();
        assert!(matches!(ended.outcome, Outcome::Complete { items: 3 }), "{ended:?}");
        assert_eq!((ended.dropped, body.received()), (2, 3));
        assert!(!body.context().is_killed());
        let again = body.cancel(StopKind::Kill).await.unwrap();
        assert_eq!(again.dropped, 0);
        assert!(!body.context().is_killed(), "it has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_does_not_end_is_killed_when_the_limit_is_over() {
        let mut body = body(false);
        let limit = Duration::from_secs(3);
        let began = tokio::time::Instant::now();
        let error = body.cancel_within(StopKind::Stop, limit).await.unwrap_err();
        assert_eq!((error.code(), began.elapsed() >= limit), (Code::Cancelled, true));
        assert!(body.context().is_killed());
    }
}
