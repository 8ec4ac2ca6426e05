//! Requests that wait for their reply.
//!
//! The client library has such a table too, but it keeps the entry of an abandoned request for the
//! whole lifetime of the client, and does not report to a request that its connection broke.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_nats::Message;
use parking_lot::Mutex;
use sinew_plane::{Code, Error, Executed, budget::Account};
use tokio::sync::{Notify, oneshot};

use crate::charge;

/// Which connection to a server something went over: the client, and how often it had connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carrier {
    pub(crate) epoch: u64,
    pub(crate) connects: u64,
}

/// The table of one [`ConnectionState`](crate::connection_state::ConnectionState).
#[derive(Debug)]
pub(crate) struct Pending {
    entries: Mutex<HashMap<u64, Entry>>,
    limit: usize,
    next_token: AtomicU64,
    settled: Notify,
}

#[derive(Debug)]
struct Entry {
    carrier: Carrier,
    subject: String,
    sender: oneshot::Sender<Answer>,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Something came back.
    Reply(Message),
    /// Something came back, and the memory budget has no room for it.
    NoRoom,
    /// The server does not let us send to that subject.
    Denied {
        /// It was this message that was denied. With several on the way to the subject the server
        /// does not say which, and one that went before may have been delivered.
        is_this: bool,
    },
    /// The connection broke.
    Lost,
}

/// A place in the table; dropping it gives it up.
pub(crate) struct Expected<'a> {
    pending: &'a Pending,
    token: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Pending {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: Mutex::default(),
            limit,
            next_token: AtomicU64::new(0),
            settled: Notify::new(),
        }
    }

    /// Expects a reply to what is about to be sent to `subject`.
    pub(crate) fn expect(&self, carrier: Carrier, subject: &str) -> Result<Expected<'_>, Error> {
        let (sender, answer) = oneshot::channel();
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.entries.lock();
        if entries.len() >= self.limit {
            let message = format!(
                "{} requests wait for their acknowledgement over NATS already (max_in_flight)",
                self.limit
            );
            return Err(Error::new(Code::Exhausted, message));
        }
        entries.insert(token, Entry { carrier, subject: subject.to_owned(), sender });
        Ok(Expected { pending: self, token, answer })
    }

    /// Hands over a reply, charged to `account`. False if nobody waits for it any more.
    pub(crate) fn reply(
        &self,
        token: &str,
        mut message: Message,
        account: Option<&Arc<Account>>,
    ) -> bool {
        let entry = u64::from_str_radix(token, 16).ok().and_then(|token| self.take(token));
        let Some(entry) = entry else { return false };
        let charged = charge::reply(account, &mut message);
        let answer = if charged { Answer::Reply(message) } else { Answer::NoRoom };
        entry.sender.send(answer).is_ok()
    }

    /// Fails what client `epoch` has sent to `subject`, which the server does not let it send to.
    pub(crate) fn deny(&self, epoch: u64, subject: &str) {
        let is_denied = |entry: &Entry| entry.carrier.epoch == epoch && entry.subject == subject;
        self.fail(is_denied, |count| Answer::Denied { is_this: count == 1 });
    }

    /// Fails what went over a connection of client `epoch` before its connection number `current`.
    pub(crate) fn lose(&self, epoch: u64, current: u64) {
        let is_lost =
            |entry: &Entry| entry.carrier.epoch == epoch && entry.carrier.connects < current;
        self.fail(is_lost, |_| Answer::Lost);
    }

    /// Takes out some, and gives each the answer, which is told how many they are.
    fn fail(&self, which: impl Fn(&Entry) -> bool, answer: impl Fn(usize) -> Answer) {
        let mut entries = self.entries.lock();
        let failed: Vec<_> = entries.extract_if(|_, entry| which(entry)).collect();
        self.note_settled(&entries);
        drop(entries);
        let count = failed.len();
        for (_, entry) in failed {
            let _ = entry.sender.send(answer(count));
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Ends when nobody waits.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.len() == 0 {
                return;
            }
            settled.await;
        }
    }

    fn take(&self, token: u64) -> Option<Entry> {
        let mut entries = self.entries.lock();
        let entry = entries.remove(&token);
        self.note_settled(&entries);
        entry
    }

    fn note_settled(&self, entries: &HashMap<u64, Entry>) {
        if entries.is_empty() {
            self.settled.notify_waiters();
        }
    }
}

impl Expected<'_> {
    /// Last part of the subject that the reply goes to.
    pub(crate) fn token(&self) -> String {
        format!("{:x}", self.token)
    }

    /// Waits for the answer. Cancel safe.
    pub(crate) async fn answer(&mut self) -> Answer {
        // An entry that went away without an answer belonged to a table that is gone.
        (&mut self.answer).await.unwrap_or(Answer::Lost)
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        drop(self.pending.take(self.token));
    }
}

/// The error of a request whose connection broke.
pub(crate) fn lost() -> Error {
    let message = "the connection to the NATS server broke before the worker acknowledged the \
                   request";
    Error::new(Code::ConnectionLost, message).with_executed(Executed::Maybe)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const FIRST: Carrier = Carrier { epoch: 1, connects: 1 };

    fn message() -> Message {
        Message {
            subject: "a".into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn a_reply_finds_its_request_once() {
        let pending = Pending::new(8);
        let mut expected = pending.expect(FIRST, "a").unwrap();
        let token = expected.token();
        assert!(pending.reply(&token, message(), None));
        assert!(!pending.reply(&token, message(), None), "a double is nobody's");
        assert!(!pending.reply("not hex", message(), None));
        assert!(matches!(expected.answer().now_or_never(), Some(Answer::Reply(_))));
    }

    #[test]
    fn what_is_given_up_leaves_nothing_behind() {
        let pending = Pending::new(1);
        let expected = pending.expect(FIRST, "a").unwrap();
        assert_eq!(pending.expect(FIRST, "a").err().unwrap().code(), Code::Exhausted);
        let token = expected.token();
        drop(expected);
        assert_eq!(pending.len(), 0);
        assert!(!pending.reply(&token, message(), None), "late");
    }

    #[test]
    fn a_break_fails_what_went_before_it_and_nothing_else() {
        let pending = Pending::new(8);
        let mut before = pending.expect(FIRST, "a").unwrap();
        let mut after = pending.expect(Carrier { connects: 2, ..FIRST }, "a").unwrap();
        let mut other = pending.expect(Carrier { epoch: 2, connects: 1 }, "a").unwrap();
        pending.lose(1, 2);
        assert!(matches!(before.answer().now_or_never(), Some(Answer::Lost)));
        assert!(after.answer().now_or_never().is_none());
        assert!(other.answer().now_or_never().is_none());
    }

    #[test]
    fn a_denied_subject_fails_its_requests_alone() {
        let pending = Pending::new(8);
        let mut denied = pending.expect(FIRST, "a").unwrap();
        let mut other = pending.expect(FIRST, "ab").unwrap();
        pending.deny(FIRST.epoch + 1, "a");
        assert!(denied.answer().now_or_never().is_none(), "of another client");
        pending.deny(FIRST.epoch, "a");
        let answer = denied.answer().now_or_never();
        assert!(matches!(answer, Some(Answer::Denied { is_this: true })));
        assert!(other.answer().now_or_never().is_none());
    }

    /// The right to send may have gone between the two: the first was delivered then, and runs.
    #[test]
    fn of_several_on_the_way_nobody_knows_which_was_denied() {
        let pending = Pending::new(8);
        let mut both = [pending.expect(FIRST, "a").unwrap(), pending.expect(FIRST, "a").unwrap()];
        pending.deny(FIRST.epoch, "a");
        for one in &mut both {
            let answer = one.answer().now_or_never();
            assert!(matches!(answer, Some(Answer::Denied { is_this: false })));
        }
    }

    #[tokio::test]
    async fn settled_waits_for_the_last() {
        let pending = Pending::new(8);
        let expected = pending.expect(FIRST, "a").unwrap();
        let mut settled = std::pin::pin!(pending.settled());
        assert!(settled.as_mut().now_or_never().is_none());
        drop(expected);
        settled.await;
    }
}
