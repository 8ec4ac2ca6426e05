//! The other end of a response, for tests.

use std::task::{self, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew::{Code, Error, Headers, Terminal, TrySendError, layers::plane::SinkTarget};

/// Takes what its credit allows and gains `refill` when asked to wait.
#[derive(Default)]
pub(crate) struct Caller {
    pub(crate) credit: Mutex<usize>,
    pub(crate) refill: usize,
    pub(crate) gone_after: Option<usize>,
    pub(crate) items: Mutex<Vec<Bytes>>,
    pub(crate) terminal: Mutex<Option<Terminal>>,
}

impl Caller {
    /// The items so far.
    pub(crate) fn items(&self) -> Vec<Bytes> {
        self.items.lock().clone()
    }

    /// The end.
    pub(crate) fn terminal(&self) -> Terminal {
        // A response without an end is a failed test, which is what a panic is here.
        self.terminal.lock().clone().expect("the response has an end")
    }
}

impl SinkTarget for Caller {
    fn poll_ready(&self, _: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        *self.credit.lock() += self.refill;
        Poll::Ready(Ok(()))
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        let (mut items, mut credit) = (self.items.lock(), self.credit.lock());
        if self.gone_after.is_some_and(|limit| items.len() >= limit) {
            return Err(TrySendError::Closed(Error::new(Code::Cancelled, "gone")));
        }
        if *credit == 0 {
            return Err(TrySendError::Full(item));
        }
        *credit -= 1;
        items.push(item);
        Ok(())
    }

    fn head(&self, _: Headers) {}

    fn set_facts(&self, _: Headers) {}

    fn accept(&self) {}

    fn finish(&self, terminal: Terminal) {
        self.terminal.lock().get_or_insert(terminal);
    }

    fn flush(&self) {}
}
