//! The requests on one connection: those to be written, and those that wait for their
//! acknowledgement.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use sinew_codec::EncodedParts;
use sinew_plane::Error;
use tokio::{sync::oneshot, time::Instant};

/// Pieces in one vectored write; more go into the next.
const SLICES: usize = 64;

/// Writes in a row before others get their turn at the lock: about as many as fill a large
/// socket buffer.
const WRITES: usize = 16;

/// Tells the caller how it went.
pub(crate) type AckSender = oneshot::Sender<Result<(), Error>>;

/// Requests in the order in which they are written, and so acknowledged.
#[derive(Default)]
pub(crate) struct Outbox {
    requests: VecDeque<Request>,
    /// How many at the front are written in full.
    written: usize,
    /// Bytes of the next one that are written.
    offset: usize,
}

struct Request {
    head: bytes::Bytes,
    body: bytes::Bytes,
    since: Instant,
    answer: AckSender,
}

/// How a write went.
#[derive(Debug)]
pub(crate) enum Written {
    All,
    /// The socket took no more, or others are to have their turn.
    Some,
    Failed(io::Error),
}

impl Outbox {
    pub(crate) fn push(&mut self, frame: EncodedParts, since: Instant, answer: AckSender) {
        self.requests.push_back(Request { head: frame.head, body: frame.body, since, answer });
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        self.written < self.requests.len()
    }

    /// When the oldest request was pushed.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.requests.front().map(|request| request.since)
    }

    /// Takes out the requests whose callers have gone and of which no byte is written. Returns
    /// how many.
    pub(crate) fn drop_abandoned(&mut self) -> usize {
        let before = self.requests.len();
        let keep = self.written + usize::from(self.offset > 0);
        let mut at = 0;
        self.requests.retain(|request| {
            at += 1;
            at <= keep || !request.answer.is_closed()
        });
        before - self.requests.len()
    }

    /// Writes what is there.
    pub(crate) fn write(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Written {
        for _ in 0..WRITES {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.fill(&mut slices);
            if filled == 0 {
                return Written::All;
            }
            match write(&slices[..filled]) {
                Ok(0) => return Written::Failed(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Written::Some,
                Err(error) => return Written::Failed(error),
            }
        }
        if self.has_unwritten() { Written::Some } else { Written::All }
    }

    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let parts = self.requests.iter().skip(self.written).flat_map(|it| [&it.head, &it.body]);
        let (mut filled, mut skip) = (0, self.offset);
        for part in parts {
            let rest = part.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(part.len());
            if rest.is_empty() {
                continue;
            }
            let Some(slice) = slices.get_mut(filled) else { break };
            *slice = IoSlice::new(rest);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, bytes: usize) {
        self.offset += bytes;
        while let Some(request) = self.requests.get_mut(self.written) {
            let len = request.head.len() + request.body.len();
            if self.offset < len {
                return;
            }
            self.offset -= len;
            self.written += 1;
            // The kernel has it: the memory goes back before the acknowledgement comes.
            request.head = bytes::Bytes::new();
            request.body = bytes::Bytes::new();
        }
    }

    /// The caller whose acknowledgement is next; `None` when nobody waits for one.
    pub(crate) fn acknowledged(&mut self) -> Option<AckSender> {
        self.written = self.written.checked_sub(1)?;
        self.requests.pop_front().map(|request| request.answer)
    }

    /// The callers that are left, each with whether its request was written in full. A peer that
    /// has a part of a request cannot have run it.
    pub(crate) fn into_callers(self) -> impl Iterator<Item = (AckSender, bool)> {
        let written = self.written;
        let numbered = self.requests.into_iter().enumerate();
        numbered.map(move |(at, request)| (request.answer, at < written))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    type Caller = oneshot::Receiver<Result<(), Error>>;

    fn push(outbox: &mut Outbox, head: &[u8], body: &[u8]) -> Caller {
        let (answer, caller) = oneshot::channel();
        let (head, body) = (Bytes::copy_from_slice(head), Bytes::copy_from_slice(body));
        outbox.push(EncodedParts { head, body }, Instant::now(), answer);
        caller
    }

    fn written(outbox: Outbox) -> Vec<bool> {
        outbox.into_callers().map(|(_, written)| written).collect()
    }

    #[test]
    fn small_requests_leave_in_one_write_and_large_bodies_are_not_copied() {
        let mut outbox = Outbox::default();
        let _small = push(&mut outbox, b"h1", b"b1");
        let _empty = push(&mut outbox, b"h2", b"");
        let body = Bytes::from(vec![7; 100_000]);
        let (answer, _large) = oneshot::channel();
        let frame = EncodedParts { head: Bytes::from("h3"), body: body.clone() };
        outbox.push(frame, Instant::now(), answer);
        let mut writes = 0;
        let all = outbox.write(|slices| {
            writes += 1;
            assert_eq!(slices.len(), 5);
            assert_eq!(slices[4].as_ptr(), body.as_ptr());
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        assert!(matches!(all, Written::All));
        assert_eq!((writes, written(outbox)), (1, vec![true; 3]));
    }

    #[test]
    fn a_write_of_nothing_is_an_error() {
        let mut outbox = Outbox::default();
        let _caller = push(&mut outbox, b"h", b"b");
        let result = outbox.write(|_| Ok(0));
        assert!(
            matches!(result, Written::Failed(error) if error.kind() == io::ErrorKind::WriteZero)
        );
    }

    #[test]
    fn an_error_in_the_middle_leaves_only_what_is_whole_as_written() {
        let mut outbox = Outbox::default();
        let _callers: Vec<_> = (0..4).map(|_| push(&mut outbox, b"head", b"body")).collect();
        let mut results = [Ok(8), Ok(5), Err(io::ErrorKind::BrokenPipe.into())].into_iter();
        let result = outbox.write(|_| results.next().unwrap());
        assert!(matches!(result, Written::Failed(_)));
        assert_eq!(written(outbox), [true, false, false, false]);
    }

    #[test]
    fn a_full_socket_is_no_error_and_is_gone_on_with() {
        let mut outbox = Outbox::default();
        let _caller = push(&mut outbox, b"head", b"body");
        let mut results = [Ok(3), Err(io::ErrorKind::WouldBlock.into())].into_iter();
        assert!(matches!(outbox.write(|_| results.next().unwrap()), Written::Some));
        let mut rest = Vec::new();
        outbox.write(|slices| {
            rest.extend(slices.iter().flat_map(|slice| slice.to_vec()));
            Ok(rest.len())
        });
        assert_eq!(rest, b"dbody");
    }

    #[test]
    fn the_abandoned_are_not_sent_and_the_begun_are_finished() {
        let mut outbox = Outbox::default();
        let mut callers: Vec<_> = (0..4).map(|_| push(&mut outbox, b"head", b"body")).collect();
        let mut results = [Ok(8 + 2), Err(io::ErrorKind::WouldBlock.into())].into_iter();
        outbox.write(|_| results.next().unwrap());
        // Written, begun and one of the two that are not.
        callers.drain(..3);
        assert_eq!(outbox.drop_abandoned(), 1);
        assert_eq!(written(outbox), [true, false, false]);
    }

    #[test]
    fn an_acknowledgement_for_nothing_finds_nobody() {
        let mut outbox = Outbox::default();
        assert!(outbox.acknowledged().is_none());
        let _caller = push(&mut outbox, b"h", b"b");
        assert!(outbox.acknowledged().is_none(), "not written yet");
        outbox.write(|slices| Ok(slices.iter().map(|slice| slice.len()).sum()));
        assert!(outbox.acknowledged().is_some());
        assert!(outbox.acknowledged().is_none() && outbox.oldest().is_none());
    }

    proptest! {
        #[test]
        fn any_partial_writes_give_the_same_bytes(
            requests in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..20), prop::collection::vec(any::<u8>(), 0..50)), 0..90),
            sizes in prop::collection::vec(1_usize..300, 1..50),
        ) {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            let mut callers = Vec::new();
            for (head, body) in &requests {
                callers.push(push(&mut outbox, head, body));
                expected.extend_from_slice(head);
                expected.extend_from_slice(body);
            }
            let (mut wire, mut sizes) = (Vec::new(), sizes.iter().cycle());
            while outbox.has_unwritten() {
                outbox.write(|slices| {
                    let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                    let taken = all.len().min(*sizes.next().unwrap());
                    wire.extend_from_slice(&all[..taken]);
                    Ok(taken)
                });
            }
            prop_assert_eq!(wire, expected);
            prop_assert_eq!(written(outbox), vec![true; requests.len()]);
        }
    }
}
