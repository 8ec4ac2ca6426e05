//! The handler of a stream of the model.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use sinew_mux::ReceivedRequest;
use sinew_plane::{
    CancelReason, Checkpoint, Code, Context, Error, Executed, Headers, ItemRun, ResponseSink,
    SinkTarget, Terminal, TrySendError,
};

use super::caller::Flag;
use crate::manual::Manual;

pub(crate) struct Handler {
    context: Context,
    sink: Option<ResponseSink>,
    woken: Arc<Flag>,
    /// The items that were taken from it.
    pub(crate) made: Vec<Bytes>,
    /// The checkpoints that it has attached, by the items that they cover.
    checkpoints: BTreeMap<u64, Bytes>,
    declared: Option<Declared>,
}

/// How a handler ended its response.
struct Declared {
    terminal: Terminal,
    /// It was killed before: what it made and was not sent may be dropped.
    killed: Option<CancelReason>,
}

/// The ways in which a handler may end its response.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Complete,
    Fail(Code),
    Cancel,
    Reject,
    Drop,
}

impl Handler {
    pub(crate) fn new(request: ReceivedRequest<Manual>) -> Self {
        let context = request.context().clone();
        let response = request.response as Arc<dyn SinkTarget>;
        let sink = Some(ResponseSink::new(response, context.clone()));
        Self {
            context,
            sink,
            woken: Flag::raised(),
            made: Vec::new(),
            checkpoints: BTreeMap::new(),
            declared: None,
        }
    }

    /// Sets a head and facts.
    pub(crate) fn tell(&mut self, said: &Headers) {
        if let Some(sink) = &mut self.sink {
            sink.head(said.clone()).unwrap();
            sink.set_facts(said.clone());
        }
    }

    /// Attaches a checkpoint of so many bytes to the next item.
    pub(crate) fn checkpoint(&mut self, len: usize) {
        if let Some(sink) = &mut self.sink {
            let items = self.made.len() as u64 + 1;
            let state = Bytes::from(vec![items as u8; len]);
            sink.checkpoint(state.clone()).unwrap();
            self.checkpoints.insert(items, state);
        }
    }

    /// Bytes of the longest checkpoint.
    pub(crate) fn longest_checkpoint(&self) -> usize {
        self.checkpoints.values().map(Bytes::len).max().unwrap_or(0)
    }

    /// A checkpoint that reached a caller is one that was attached.
    pub(crate) fn check_checkpoint(&self, got: &Checkpoint) {
        assert_eq!(Some(&got.state), self.checkpoints.get(&got.items), "behind {}", got.items);
    }

    /// With the end of so many items the newest checkpoint has come. One for an item that never came
    /// may have taken the place of another, though not that of the oldest.
    pub(crate) fn check_newest_checkpoint(&self, got: Option<&Checkpoint>, items: usize) {
        let items = items as u64;
        let (got, newest) = (got.map(|it| it.items), self.checkpoints.keys().next_back().copied());
        if newest.is_none_or(|newest| newest <= items) {
            assert_eq!(got, newest, "of {items} items");
        } else {
            let any = self.checkpoints.range(..=items).next().is_some();
            assert_eq!(got.is_some(), any, "of {items} items");
        }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.sink.is_none()
    }

    /// False when the item was not taken.
    pub(crate) fn push(&mut self, item: Bytes) -> bool {
        let Some(sink) = &mut self.sink else { return false };
        match sink.try_send(item.clone()) {
            Ok(()) => {
                self.made.push(item);
                return true;
            }
            Err(TrySendError::Full(back)) => assert_eq!(back, item),
            Err(TrySendError::Closed(_)) => assert!(self.context.is_killed()),
        }
        false
    }

    /// Those that were not taken are none of its items.
    pub(crate) fn push_run(&mut self, mut items: Vec<Bytes>) {
        let Some(sink) = &mut self.sink else { return };
        let mut run = ItemRun::new();
        items.iter().for_each(|item| run.push(item));
        match sink.try_send_run(&mut run) {
            Ok(room) => assert!(room == 0 || run.is_empty(), "{room} more, and it left {run:?}"),
            Err(_) => assert!(self.context.is_killed()),
        }
        items.truncate(items.len() - run.count());
        self.made.append(&mut items);
    }

    pub(crate) fn accept(&mut self) {
        if let Some(sink) = &mut self.sink {
            sink.accept();
        }
    }

    pub(crate) fn flush(&self) {
        if let Some(sink) = &self.sink {
            sink.flush();
        }
    }

    pub(crate) fn end(&mut self, end: End) {
        let Some(sink) = self.sink.take() else { return };
        let reason = self.context.reason();
        let killed = reason.filter(|_| self.context.is_killed());
        let error = |code| Error::new(code, "of its own");
        let terminal = match (end, reason) {
            (End::Complete, _) => Terminal::Complete { items: self.made.len() as u64 },
            (End::Fail(code), _) => {
                Terminal::Failed { error: error(code).with_executed(Executed::Yes) }
            }
            (End::Reject, _) => {
                let executed = if self.made.is_empty() { Executed::No } else { Executed::Yes };
                Terminal::Failed { error: error(Code::Overloaded).with_executed(executed) }
            }
            (End::Drop, None) => Terminal::Failed { error: Error::new(Code::HandlerGone, "") },
            (End::Drop, Some(reason)) => Terminal::Cancelled { reason },
            (End::Cancel, _) => Terminal::Cancelled { reason: CancelReason::Shutdown },
        };
        self.declared = Some(Declared { terminal, killed });
        match end {
            End::Complete => sink.complete(),
            End::Fail(code) => sink.fail(error(code)),
            // Only before the first item does it mean that nothing ran.
            End::Reject if self.made.is_empty() => sink.reject(error(Code::Overloaded)),
            End::Reject => sink.fail(error(Code::Overloaded)),
            End::Cancel => sink.cancelled(CancelReason::Shutdown),
            End::Drop => drop(sink),
        }
    }

    /// Makes a last item as soon as there is room for it, and ends.
    pub(crate) fn wind_up(&mut self, last: Bytes) {
        if self.context.is_killed() {
            return self.end(End::Drop);
        }
        if self.context.is_stopped() {
            return self.end(End::Complete);
        }
        for look in 0.. {
            if !self.woken.is_up() || self.sink.is_none() {
                return;
            }
            if self.push(last.clone()) {
                return self.end(End::Complete);
            }
            assert!(look == 0, "ready, and it takes no item");
            self.flush();
            if let Some(sink) = &mut self.sink {
                let _ = self.woken.poll(|cx| sink.poll_ready(cx));
            }
        }
    }

    /// A terminal that reached the caller behind so many items is the one that was declared.
    pub(crate) fn check_end(&self, got: &Terminal, taken: usize) {
        let Declared { terminal, killed } = self.declared.as_ref().unwrap();
        assert!(killed.is_some() || taken == self.made.len(), "{taken} of {}", self.made.len());
        match (terminal, got) {
            (Terminal::Complete { .. }, Terminal::Complete { items }) => {
                assert_eq!((self.made.len(), *items), (taken, taken as u64));
            }
            (Terminal::Complete { .. }, Terminal::Cancelled { reason }) => {
                assert_eq!(Some(*reason), *killed, "cancelled, and every item was sent");
            }
            (Terminal::Failed { error: a }, Terminal::Failed { error: b }) => {
                assert_eq!((a.code(), a.executed()), (b.code(), b.executed()));
            }
            (Terminal::Cancelled { reason: a }, Terminal::Cancelled { reason: b }) => {
                assert_eq!(a, b);
            }
            (declared, got) => panic!("declared {declared:?}, got {got:?}"),
        }
    }
}
