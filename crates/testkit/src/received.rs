//! A response read to its end.

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use sinew_plane::{Error, Outcome, ResponseStream};

use crate::{Observed, within};

/// Everything that came out of one stream.
#[derive(Debug)]
pub struct Received {
    /// The items, in the order they came.
    pub items: Vec<Bytes>,
    /// The error that ended the stream, if one did.
    pub error: Option<Error>,
    /// How the stream says it ended.
    pub outcome: Outcome,
    /// Items that had been taken before this reading began.
    before: u64,
}

impl Received {
    /// Reads a stream to its end, and a little beyond.
    ///
    /// # Panics
    /// When the end does not come, something follows it, or the stream contradicts itself: an
    /// error and a complete outcome, an end without outcome, a wrong count.
    pub async fn read(stream: &mut ResponseStream) -> Self {
        Self::read_telling(stream, || ()).await
    }

    /// As [`read`](Self::read), and tells of each item.
    ///
    /// # Panics
    /// As [`read`](Self::read).
    pub async fn read_telling(stream: &mut ResponseStream, mut on_item: impl FnMut()) -> Self {
        let before = stream.received();
        let (items, error) = within("a stream to end", async {
            let mut items = Vec::new();
            loop {
                // A stream that always has more leaves the others of a case their turn, and the
                // limit of this wait.
                tokio::task::coop::consume_budget().await;
                match stream.next().await {
                    Some(Ok(item)) => {
                        items.push(item);
                        on_item();
                    }
                    Some(Err(error)) => return (items, Some(error)),
                    None => return (items, None),
                }
            }
        })
        .await;
        for _ in 0..2 {
            let after = within("an ended stream to answer", stream.next()).await;
            assert!(after.is_none(), "I1: {after:?} came after the end of the stream");
        }
        assert_eq!(stream.received(), before + items.len() as u64, "received() miscounts");
        let Some(outcome) = stream.outcome().cloned() else {
            panic!("I3: the stream ended and has no outcome");
        };
        let complete = matches!(outcome, Outcome::Complete { .. });
        assert_eq!(complete, error.is_none(), "I3: {outcome:?} with the error {error:?}");
        Self { items, error, outcome, before }
    }

    /// Reads many streams at the same time, each as [`read`](Self::read) does.
    ///
    /// # Panics
    /// As [`read`](Self::read).
    pub async fn read_all(streams: Vec<ResponseStream>) -> Vec<Self> {
        let read = |mut stream| async move { Self::read(&mut stream).await };
        join_all(streams.into_iter().map(read)).await
    }

    /// The items of a stream that must be complete, from where this reading began.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn complete(self) -> Vec<Bytes> {
        let Outcome::Complete { items } = self.outcome else {
            panic!(
                "after {} items the stream ended as {:?}, and should be complete: {:?}",
                self.items.len(),
                self.outcome,
                self.error
            );
        };
        assert_eq!(items, self.before + self.items.len() as u64, "the terminal miscounts");
        self.items
    }

    /// The error of a stream that must have failed.
    ///
    /// # Panics
    /// When it has not.
    #[track_caller]
    pub fn failed(&self) -> &Error {
        match (&self.outcome, &self.error) {
            (Outcome::Failed { error }, Some(raised)) => {
                assert_eq!(error.code(), raised.code(), "outcome and error disagree");
                error
            }
            (outcome, _) => panic!("the stream ended as {outcome:?}, and should have failed"),
        }
    }

    /// The history of a consumer that read from the first item on, for [`check`](crate::check).
    pub fn observed(&self) -> Vec<Observed> {
        let items = self.items.iter().cloned().map(Observed::Item);
        items.chain([Observed::End(self.outcome.clone())]).collect()
    }
}
