//! The metadata of a response: its head, its facts and its checkpoints.

use crate::{Checkpoint, Headers};

/// The head, the facts and the checkpoints of a response, as a transport keeps them. Allocates
/// nothing if the response has none, which is the usual case.
#[derive(Debug, Clone, Default)]
pub struct ResponseMetadata(Option<Box<Parts>>);

#[derive(Debug, Clone, Default)]
struct Parts {
    head: Option<Headers>,
    facts: Headers,
    /// The newest checkpoint that was sent or received.
    checkpoint: Option<Checkpoint>,
    /// Those that a producer has to send: the oldest, and the newest. The oldest stays until it is
    /// sent, so that a handler with a checkpoint for each item does not put off the sending of any.
    unsent: [Option<Checkpoint>; 2],
}

impl ResponseMetadata {
    /// No head and no facts.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Sets the head, unless there is one already. False if there is.
    pub fn set_head(&mut self, head: Headers) -> bool {
        let parts = self.0.get_or_insert_default();
        let is_first = parts.head.is_none();
        parts.head.get_or_insert(head);
        is_first
    }

    /// The head, if there is one. It may be empty.
    pub fn head(&self) -> Option<&Headers> {
        self.0.as_ref()?.head.as_ref()
    }

    /// Drops the head.
    pub fn take_head(&mut self) -> Option<Headers> {
        self.0.as_mut()?.head.take()
    }

    /// Sets the facts, in place of earlier ones.
    pub fn set_facts(&mut self, facts: Headers) {
        if !facts.is_empty() || self.0.is_some() {
            self.0.get_or_insert_default().facts = facts;
        }
    }

    /// The facts; empty when there are none.
    pub fn facts(&self) -> &Headers {
        static NONE: Headers = Headers::new();
        self.0.as_ref().map_or(&NONE, |parts| &parts.facts)
    }

    /// Sets the newest checkpoint. False if it covers no more items than the one before.
    pub fn set_checkpoint(&mut self, checkpoint: Checkpoint) -> bool {
        let newest = &mut self.0.get_or_insert_default().checkpoint;
        let is_newer = newest.as_ref().is_none_or(|before| before.items < checkpoint.items);
        if is_newer {
            *newest = Some(checkpoint);
        }
        is_newer
    }

    /// The newest checkpoint that was sent or received.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.0.as_ref()?.checkpoint.as_ref()
    }

    /// Keeps a checkpoint until the items that it covers are sent. One that waits behind another
    /// is replaced, and so is one for as many items.
    pub fn add_unsent(&mut self, checkpoint: Checkpoint) {
        let [oldest, newest] = &mut self.0.get_or_insert_default().unsent;
        let is_first = oldest.as_ref().is_none_or(|oldest| oldest.items == checkpoint.items);
        let place = if is_first { oldest } else { newest };
        *place = Some(checkpoint);
    }

    /// True if [`send_checkpoint`](Self::send_checkpoint) has one to send after so many items.
    #[inline]
    pub fn has_checkpoint_due(&self, sent: u64) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.is_due(sent))
    }

    /// The newest unsent checkpoint that covers no more than the items `sent`. It counts as sent
    /// from now on.
    pub fn send_checkpoint(&mut self, sent: u64) -> Option<&Checkpoint> {
        let parts = self.0.as_mut().filter(|parts| parts.is_due(sent))?;
        let [oldest, newest] = &mut parts.unsent;
        if newest.as_ref().is_some_and(|newest| newest.items <= sent) {
            *oldest = newest.take();
        }
        parts.checkpoint = std::mem::replace(oldest, newest.take());
        parts.checkpoint.as_ref()
    }

    /// Makes the checkpoint that was sent last unsent again, for a consumer that may not have it.
    pub fn resend_checkpoint(&mut self) {
        let Some(parts) = &mut self.0 else { return };
        let Some(sent) = parts.checkpoint.take() else { return };
        let [oldest, newest] = &mut parts.unsent;
        if newest.is_none() {
            *newest = oldest.take();
        }
        *oldest = Some(sent);
    }

    /// Bytes of head, facts and checkpoints in their wire form.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |parts| parts.bytes())
    }
}

impl Parts {
    #[cold]
    fn bytes(&self) -> usize {
        let head = self.head.as_ref().map_or(0, |head| head.as_block().len());
        let checkpoints = self.unsent.iter().chain([&self.checkpoint]).flatten();
        let checkpoints: usize = checkpoints.map(|checkpoint| checkpoint.state.len()).sum();
        head + self.facts.as_block().len() + checkpoints
    }

    #[cold]
    fn is_due(&self, sent: u64) -> bool {
        self.unsent[0].as_ref().is_some_and(|oldest| oldest.items <= sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> Headers {
        let mut headers = Headers::new();
        headers.insert("a", value).unwrap();
        headers
    }

    #[test]
    fn nothing_costs_nothing() {
        let mut metadata = ResponseMetadata::new();
        assert_eq!(size_of_val(&metadata), size_of::<usize>());
        metadata.set_facts(Headers::new());
        assert!(metadata.0.is_none());
        assert!(metadata.head().is_none() && metadata.facts().is_empty());
        assert_eq!(metadata.bytes(), 0);
    }

    #[test]
    fn the_first_head_and_the_last_facts_stay() {
        let mut metadata = ResponseMetadata::new();
        assert!(metadata.set_head(headers("1")));
        assert!(!metadata.set_head(headers("2")));
        metadata.set_facts(headers("3"));
        metadata.set_facts(headers("four"));
        assert_eq!(metadata.head(), Some(&headers("1")));
        assert_eq!(metadata.facts(), &headers("four"));
        assert_eq!(metadata.bytes(), 5 + 8);
        assert_eq!(metadata.take_head(), Some(headers("1")));
        metadata.set_facts(Headers::new());
        assert_eq!((metadata.head(), metadata.bytes()), (None, 0));
    }

    fn checkpoint(items: u64) -> Checkpoint {
        Checkpoint { items, state: vec![0; 10].into() }
    }

    fn sent(metadata: &mut ResponseMetadata, items: u64) -> Option<u64> {
        let is_due = metadata.has_checkpoint_due(items);
        let sent = metadata.send_checkpoint(items).map(|checkpoint| checkpoint.items);
        assert_eq!(is_due, sent.is_some());
        sent
    }

    #[test]
    fn a_checkpoint_is_sent_behind_the_items_that_it_covers() {
        let mut metadata = ResponseMetadata::new();
        assert_eq!(sent(&mut metadata, 9), None);
        metadata.add_unsent(checkpoint(2));
        assert_eq!((sent(&mut metadata, 1), metadata.bytes()), (None, 10));
        assert_eq!((sent(&mut metadata, 2), sent(&mut metadata, 2)), (Some(2), None));
        assert_eq!(metadata.checkpoint().map(|it| it.items), Some(2));
    }

    #[test]
    fn the_oldest_unsent_checkpoint_waits_for_no_newer_one() {
        let mut metadata = ResponseMetadata::new();
        (2..=5).for_each(|items| metadata.add_unsent(checkpoint(items)));
        assert_eq!((sent(&mut metadata, 2), sent(&mut metadata, 4)), (Some(2), None));
        assert_eq!(sent(&mut metadata, 5), Some(5));
        (6..=8).for_each(|items| metadata.add_unsent(checkpoint(items)));
        assert_eq!(sent(&mut metadata, 9), Some(8), "one that is due replaces an older one");
    }

    #[test]
    fn of_two_checkpoints_for_as_many_items_the_later_one_is_sent() {
        let mut metadata = ResponseMetadata::new();
        for (items, state) in [(1, "a"), (1, "b"), (2, "c"), (2, "d")] {
            metadata.add_unsent(Checkpoint { items, state: state.into() });
        }
        assert_eq!(metadata.send_checkpoint(1).map(|it| &it.state[..]), Some(&b"b"[..]));
        assert_eq!(metadata.send_checkpoint(2).map(|it| &it.state[..]), Some(&b"d"[..]));
    }

    #[test]
    fn what_was_sent_last_is_sent_again_before_what_was_not_sent() {
        let mut metadata = ResponseMetadata::new();
        metadata.add_unsent(checkpoint(2));
        sent(&mut metadata, 2);
        (3..=4).for_each(|items| metadata.add_unsent(checkpoint(items)));
        metadata.resend_checkpoint();
        assert_eq!((sent(&mut metadata, 1), sent(&mut metadata, 2)), (None, Some(2)));
        assert_eq!(sent(&mut metadata, 4), Some(4));
    }

    #[test]
    fn a_consumer_keeps_the_newest_checkpoint() {
        let mut metadata = ResponseMetadata::new();
        assert!(metadata.set_checkpoint(checkpoint(2)) && !metadata.set_checkpoint(checkpoint(2)));
        assert!(metadata.set_checkpoint(checkpoint(3)) && !metadata.set_checkpoint(checkpoint(1)));
        assert_eq!(metadata.checkpoint().map(|it| it.items), Some(3));
    }
}
