//! The values of a response together with its moves to other instances.

use std::{
    pin::Pin,
    task::{self, Poll},
};

use futures_core::Stream;

use super::Body;
use crate::{Error, Migrated};

/// A value of a response, or a move of the response to another instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyEvent<T> {
    /// The next value.
    Item(T),
    /// The response goes on at another instance from here.
    Migrated(Migrated),
}

/// A response as a stream of [`BodyEvent`]s: [`Body::events`] returns it. It ends as the response
/// does. Dropping it before its end cancels the request.
///
/// ```
/// use futures_util::{StreamExt, stream};
/// use sinew_plane::{Body, BodyEvent, Context, Error};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let body = Body::new(stream::iter([Ok::<_, Error>(1)]), Context::new());
/// let mut events = body.events();
/// while let Some(event) = events.next().await.transpose()? {
///     match event {
///         BodyEvent::Item(value) => assert_eq!(value, 1),
///         BodyEvent::Migrated(moved) => println!("moved {moved}"),
///         _ => {}
///     }
/// }
/// assert!(events.body().migrations().is_empty());
/// # Ok(())
/// # }
/// ```
pub struct BodyEvents<T> {
    body: Body<T>,
    /// How many migrations were shown.
    shown: usize,
    /// What was polled while migrations before it were not shown yet.
    held: Option<Option<Result<T, Error>>>,
}

impl<T> BodyEvents<T> {
    pub(super) fn new(body: Body<T>) -> Self {
        Self { body, shown: 0, held: None }
    }

    /// The response, for its outcome, its facts and its migrations.
    pub fn body(&self) -> &Body<T> {
        &self.body
    }

    fn next_migration(&mut self) -> Option<Migrated> {
        let migrated = self.body.noted()?.get(self.shown)?;
        self.shown += 1;
        Some(migrated)
    }
}

impl<T> Stream for BodyEvents<T> {
    type Item = Result<BodyEvent<T>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.held.is_none()
            && let Poll::Ready(next) = Pin::new(&mut this.body).poll_next(cx)
        {
            this.held = Some(next);
        }
        if let Some(migrated) = this.next_migration() {
            // Shown also while no value has come since.
            return Poll::Ready(Some(Ok(BodyEvent::Migrated(migrated))));
        }
        match this.held.take() {
            Some(next) => Poll::Ready(next.map(|next| next.map(BodyEvent::Item))),
            None => Poll::Pending,
        }
    }
}

// As of the body; a held value is not pinned.
impl<T> Unpin for BodyEvents<T> {}

impl<T> std::fmt::Debug for BodyEvents<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BodyEvents").field(&self.body).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::{BodyEnd, BodySource, Context, InstanceId, MigrationCause, Migrations, Next};

    /// Yields 0, 1, ... and moves before those that are listed, without a value ready at that poll.
    struct Moving {
        next: u64,
        moves: Vec<u64>,
        notes: Migrations,
    }

    impl BodySource<u64> for Moving {
        fn poll_value(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Next<u64>> {
            if self.moves.first() == Some(&self.next) {
                self.moves.remove(0);
                self.notes.add(moved(self.next));
                cx.waker().wake_by_ref();
                return if self.next.is_multiple_of(2) {
                    Poll::Pending
                } else {
                    self.poll_value(cx)
                };
            }
            self.next += 1;
            Poll::Ready(match self.next {
                6 => Next::End(BodyEnd::complete()),
                next => Next::Item(next - 1),
            })
        }
    }

    fn moved(at: u64) -> Migrated {
        Migrated::new(InstanceId(1), InstanceId(2), at, 0, MigrationCause::Lost)
    }

    #[tokio::test]
    async fn migrations_stand_between_the_values_where_they_happened() {
        let notes = Migrations::new();
        let source = Moving { next: 0, moves: vec![0, 2, 3, 3, 5], notes: notes.clone() };
        let body = Body::new(source, Context::new()).with_migrations(notes);
        let mut events = body.events();
        let mut all = Vec::new();
        while let Some(event) = events.next().await.transpose().unwrap() {
            all.push(event);
        }
        let expected = [None, Some(0), Some(1), None, Some(2), None, None, Some(3), Some(4), None];
        let mut at = [0, 2, 3, 3, 5].into_iter();
        let expected = expected.map(|item| match item {
            Some(item) => BodyEvent::Item(item),
            None => BodyEvent::Migrated(moved(at.next().unwrap())),
        });
        assert_eq!(all, expected);
        let body = events.body();
        assert_eq!((body.received(), body.migrations().len()), (5, 5));
        assert_eq!(body.outcome().unwrap().as_str(), "complete");
    }

    #[tokio::test]
    async fn a_response_keeps_its_migrations_where_it_is_watched_anew() {
        let notes = Migrations::new();
        notes.add(moved(7));
        let body = Body::new(futures_util::stream::iter([Ok(1)]), Context::new());
        let body = body.with_migrations(notes).on_end(Quiet).watched(&Context::new(), None);
        assert_eq!(body.migrations(), [moved(7)]);
    }

    struct Quiet;

    impl crate::OnBodyEnd for Quiet {
        fn ended(self: Box<Self>, _: &crate::Outcome, _: Option<&Error>) {}
    }
}
