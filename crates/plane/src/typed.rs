//! The typed ends of an exchange: one value in, many values out.

use std::{
    fmt,
    pin::Pin,
    task::{self, Poll},
};

use futures_core::Stream;

use crate::{BoxStream, Context, Error, HeadersError, Outcome};

/// One request value and its context: what a router sends and an engine receives.
#[derive(Debug)]
pub struct SingleIn<T> {
    data: T,
    context: Context,
}

impl<T> SingleIn<T> {
    /// A request with a context of its own.
    pub fn new(data: T) -> Self {
        Self { data, context: Context::new() }
    }

    /// A request with a given context.
    pub fn with_context(data: T, context: Context) -> Self {
        Self { data, context }
    }

    /// The value.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// The context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The same request with one more header, in a [child](Context::child_with) of its context:
    /// the headers of a context do not change.
    ///
    /// # Errors
    /// [`HeadersError`] when the name, the value or the headers together break a limit.
    pub fn with_header(self, name: &str, value: &str) -> Result<Self, HeadersError> {
        let mut headers = self.context.headers().clone();
        headers.insert(name, value)?;
        Ok(Self { context: self.context.child_with(headers), data: self.data })
    }

    /// Both parts.
    pub fn into_parts(self) -> (T, Context) {
        (self.data, self.context)
    }
}

impl<T> From<T> for SingleIn<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}

/// The response to one request: a stream of values, then exactly one end.
///
/// `None` without an `Err` before it means complete. After an `Err` the stream is over;
/// [`outcome`](Self::outcome) tells failed, cancelled and truncated apart. Dropping it before
/// its end cancels the request.
pub struct ManyOut<T> {
    values: BoxStream<'static, Result<T, Error>>,
    context: Context,
    received: u64,
    outcome: Option<Outcome>,
    /// Asked for the outcome when `values` ends, because only the carrier knows it exactly.
    ending: Option<Box<dyn FnOnce() -> Option<Outcome> + Send>>,
}

impl<T> ManyOut<T> {
    /// A response from values; its end is complete, or failed with the first error.
    pub fn new(
        values: impl Stream<Item = Result<T, Error>> + Send + 'static,
        context: Context,
    ) -> Self {
        Self { values: Box::pin(values), context, received: 0, outcome: None, ending: None }
    }

    /// The same, asking `ending` for the outcome once the values have ended.
    #[must_use]
    pub fn with_ending(
        mut self,
        ending: impl FnOnce() -> Option<Outcome> + Send + 'static,
    ) -> Self {
        self.ending = Some(Box::new(ending));
        self
    }

    /// The request's context: stop, kill, deadline.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// How many values have come so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How the stream ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    fn end(&mut self, error: Option<&Error>) {
        let known = self.ending.take().and_then(|ending| ending());
        let known = known.map(|outcome| outcome.behind_items(self.received));
        self.outcome = Some(match (known, error) {
            (Some(outcome), _) => outcome,
            (None, Some(error)) => Outcome::Failed { error: error.clone() },
            (None, None) => Outcome::Complete { items: self.received },
        });
    }
}

impl<T> Stream for ManyOut<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        if self.outcome.is_some() {
            return Poll::Ready(None);
        }
        let next = std::task::ready!(self.values.as_mut().poll_next(cx));
        let next = next.map(|next| next.map_err(|error| error.behind_items(self.received)));
        match &next {
            Some(Ok(_)) => self.received += 1,
            Some(Err(error)) => {
                let error = error.clone();
                self.end(Some(&error));
            }
            None => self.end(None),
        }
        Poll::Ready(next)
    }
}

// The boxed stream is Unpin and nothing else is pinned.
impl<T> Unpin for ManyOut<T> {}

impl<T> fmt::Debug for ManyOut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManyOut")
            .field("received", &self.received)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    /// A handler may hand on an error of a service that refused it: that one did not run.
    #[tokio::test]
    async fn an_item_that_came_says_that_it_ran() {
        use crate::{Code, Executed};
        for code in Code::ALL {
            let refused = || Error::new(*code, "elsewhere").with_executed(Executed::No);
            let mut early = ManyOut::new(stream::iter([Err::<u8, _>(refused())]), Context::new());
            let error = early.next().await.unwrap().unwrap_err();
            assert_eq!(error.executed(), Executed::No, "{code}");

            let values = stream::iter([Ok(1), Err(refused())]);
            let ending = Outcome::Failed { error: refused() };
            let mut late = ManyOut::new(values, Context::new()).with_ending(|| Some(ending));
            late.next().await.unwrap().unwrap();
            let error = late.next().await.unwrap().unwrap_err();
            assert_eq!((error.executed(), error.is_safe_to_resend()), (Executed::Yes, false));
            let Some(Outcome::Failed { error }) = late.outcome() else { panic!("{code}") };
            assert_eq!(error.executed(), Executed::Yes, "{code}");
        }
    }

    #[tokio::test]
    async fn the_end_is_complete_or_the_first_error() {
        let mut good = ManyOut::new(stream::iter([Ok(1), Ok(2)]), Context::new());
        assert_eq!(good.by_ref().count().await, 2);
        assert!(matches!(good.outcome(), Some(Outcome::Complete { items: 2 })));

        let broken = stream::iter([Ok(1), Err(Error::handler("boom")), Ok(3)]);
        let mut broken = ManyOut::new(broken, Context::new());
        let seen: Vec<_> = broken.by_ref().collect().await;
        assert_eq!(seen.len(), 2, "nothing follows an error");
        assert!(matches!(broken.outcome(), Some(Outcome::Failed { .. })));
    }
}
