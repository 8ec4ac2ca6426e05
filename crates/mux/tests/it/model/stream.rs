//! One stream of the model: its two ends, and what is known to be true of it.

use bytes::Bytes;
use sinew_mux::{Consumer, Ended, Producer, PushError};
use sinew_plane::{CancelReason, Code, Error, ItemBatch, StopKind, StreamId, Terminal, Window};

/// Where a stream runs now: which connection, and its number there.
pub(crate) type Place = Option<(usize, u32)>;

/// What every producer keeps at the most.
const LIMIT: Window = Window { items: 256, bytes: 64 << 10 };

pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) window: Window,
    pub(crate) caller: Caller,
    /// There once the open has arrived.
    pub(crate) server: Option<Server>,
}

/// The consumer, and the caller around it.
pub(crate) struct Caller {
    pub(crate) consumer: Consumer,
    pub(crate) place: Place,
    pub(crate) body: Bytes,
    pub(crate) body_sent: usize,
    pub(crate) opened: bool,
    pub(crate) cancelled: Option<StopKind>,
    /// An attach is sent, and nothing has come back over the new number.
    pub(crate) attaching: bool,
    batch: ItemBatch,
    taken: u64,
}

/// The producer, and the handler around it.
pub(crate) struct Server {
    pub(crate) producer: Producer,
    pub(crate) place: Place,
    /// Items that were pushed and not dropped.
    made: Vec<Bytes>,
    /// Items that the handler made and a kill dropped.
    cut: bool,
    declared: Option<Terminal>,
}

/// An item that no other stream and no other number has.
fn item(stream: u128, number: usize, len: usize) -> Bytes {
    let mut bytes = vec![(stream as u8) << 5 ^ number as u8; len];
    for (to, from) in bytes.iter_mut().zip((number as u32).to_be_bytes()) {
        *to = from;
    }
    bytes.into()
}

impl Stream {
    pub(crate) fn new(number: usize, window: Window, body_len: usize) -> Self {
        let id = StreamId(number as u128 + 1);
        Self {
            id,
            window,
            caller: Caller {
                consumer: Consumer::new(window),
                place: None,
                body: item(id.0, 0, body_len),
                body_sent: 0,
                opened: false,
                cancelled: None,
                attaching: false,
                batch: ItemBatch::new(),
                taken: 0,
            },
            server: None,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.caller.consumer.ended().is_some()
    }

    /// The caller takes what has arrived, and compares it with what was made.
    pub(crate) fn take(&mut self) {
        let caller = &mut self.caller;
        caller.consumer.take(&mut caller.batch);
        for got in caller.batch.by_ref() {
            let made = &self.server.as_ref().unwrap().made;
            assert_eq!(Some(&got), made.get(caller.taken as usize), "item {}", caller.taken);
            caller.taken += 1;
        }
        assert_eq!(caller.taken, caller.consumer.received());
    }

    pub(crate) fn push(&mut self, len: usize) {
        let Some(server) = &mut self.server else { return };
        let item = item(self.id.0, server.made.len(), len);
        let ready = server.producer.is_ready();
        match server.producer.push(item.clone()) {
            Ok(()) => {
                assert!(ready);
                server.made.push(item);
            }
            Err(PushError::Full(back)) => assert!(!ready && back == item),
            Err(PushError::Ended) => assert!(!ready && (server.cut || server.declared.is_some())),
        }
    }

    /// What each end keeps is bounded, and the two ends fit.
    pub(crate) fn check(&self) {
        let Some(server) = &self.server else { return };
        let pushed = server.producer.pushed() as usize;
        assert_eq!(pushed, server.made.len());
        let received = self.caller.consumer.received() as usize;
        assert!(received <= pushed, "more items arrived than were made");
        let bytes = self.window.bytes.min(LIMIT.bytes);
        fits(&server.made[pushed - server.producer.kept()..], self.window.items, bytes);
        fits(&server.made[self.caller.taken as usize..received], self.window.items, bytes);
    }

    /// The end is the one that was declared, or the one that the truth allows.
    pub(crate) fn check_end(&self) {
        let Some(Ended::Terminal(terminal)) = self.caller.consumer.ended() else {
            panic!("no end: {:?}", self.caller.consumer.ended());
        };
        let received = self.caller.consumer.received();
        assert_eq!(self.caller.taken, received);
        let Some(server) = &self.server else {
            // The open was lost with its carrier, or cancelled before its body was there.
            assert_eq!(received, 0);
            match terminal {
                Terminal::Failed { error } => assert_eq!(error.code(), Code::ResumeExpired),
                Terminal::Cancelled { .. } => assert!(self.caller.cancelled.is_some()),
                Terminal::Complete { .. } => panic!("complete, and no handler saw it"),
            }
            return;
        };
        assert_eq!(received, server.made.len() as u64, "the end counts the items on the wire");
        match (server.declared.as_ref().unwrap(), terminal) {
            (Terminal::Complete { .. }, Terminal::Complete { items }) => {
                assert!(!server.cut, "complete, and items were dropped");
                assert_eq!(*items, received);
            }
            (Terminal::Complete { .. }, Terminal::Cancelled { reason }) => {
                assert!(server.cut, "cancelled, and every item was sent");
                assert_eq!(*reason, CancelReason::Caller);
            }
            (Terminal::Failed { error: a }, Terminal::Failed { error: b }) => {
                assert_eq!((a.code(), a.message()), (b.code(), b.message()));
            }
            (Terminal::Cancelled { reason: a }, Terminal::Cancelled { reason: b }) => {
                assert_eq!(a, b);
            }
            (declared, got) => panic!("declared {declared:?}, got {got:?}"),
        }
    }
}

/// No more than a window plus one item.
fn fits(items: &[Bytes], most_items: u32, most_bytes: u32) {
    assert!(items.len() <= most_items as usize, "{} items of {most_items}", items.len());
    if let Some((_, before)) = items.split_last() {
        let bytes: usize = before.iter().map(Bytes::len).sum();
        assert!(bytes < most_bytes as usize, "{bytes} bytes of {most_bytes} before the last item");
    }
}

impl Server {
    pub(crate) fn new(window: Window, place: Place) -> Self {
        let producer = Producer::new(window).with_limit(LIMIT);
        Self { producer, place, made: Vec::new(), cut: false, declared: None }
    }

    pub(crate) fn finish(&mut self, terminal: Terminal) {
        self.producer.finish(terminal.clone());
        self.declared.get_or_insert(terminal);
    }

    pub(crate) fn discard(&mut self) {
        self.producer.discard_unsent(CancelReason::Caller);
        let kept = self.producer.pushed() as usize;
        self.cut |= kept < self.made.len();
        self.made.truncate(kept);
    }

    pub(crate) fn on_cancel(&mut self, kind: StopKind, reason: CancelReason) {
        if kind == StopKind::Kill {
            self.discard();
        }
        self.finish(Terminal::Cancelled { reason });
    }
}

/// The terminals that a handler may declare.
pub(crate) fn terminal(which: u8, items: u64) -> Terminal {
    match which {
        0 => Terminal::Failed { error: Error::new(Code::HandlerFailed, "of its own") },
        1 => Terminal::Failed { error: Error::new(Code::DeadlineExceeded, "too late") },
        2 => Terminal::Cancelled { reason: CancelReason::Shutdown },
        _ => Terminal::Complete { items },
    }
}
