//! One stream of the model: its caller, its handler, and what is known to be true of it.

use bytes::Bytes;
use sinew_mux::ReceivedRequest;
use sinew_plane::{
    CancelReason, Code, EndpointName, Error, Executed, Headers, InstanceId, OutgoingRequest,
    StreamId, Terminal, Window,
};

use super::{caller::Caller, handler::Handler, taker::Taker};
use crate::manual::Manual;

/// What every producer keeps at the most.
pub(crate) const LIMIT: Window = Window { items: 256, bytes: 64 << 10 };

/// Longest item that is pushed.
pub(crate) const MAX_ITEM: usize = 200_000;

/// What a tally charges without need, and what an item costs.
const SLACK_BYTES: usize = 20 << 10;
const ITEM_COST_BYTES: usize = 64;

pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) window: Window,
    body: Bytes,
    pub(crate) caller: Caller,
    /// The second process, once it has tried to take the stream over.
    pub(crate) taker: Option<Taker>,
    /// What the second process has asked for it without the right to, and has no answer to.
    pub(crate) guesses: Vec<Caller>,
    /// There once the request has arrived.
    pub(crate) handler: Option<Handler>,
    /// Its handler sets a head and facts; half of them do.
    tells: bool,
    /// The caller was told that nothing ran for its request.
    refused: bool,
}

/// What may have happened to a stream besides the loss of carriers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    /// Both ends keep streams.
    pub(crate) resumes: bool,
    /// Some were given up because their time was over.
    pub(crate) expired: bool,
    /// Another process may have one: from then on the server cannot say of what it does not know
    /// that it never ran.
    pub(crate) gave_away: bool,
    /// A connection of the second process was lost on its side while something was on its way to the
    /// server. An attach among that may arrive when a later one was refused, and may get the stream:
    /// then neither process has it.
    pub(crate) is_late: bool,
}

/// How a stream ended for its caller.
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    Terminal(Terminal),
    Lost(Error),
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
            body: item(id.0, 0, body_len),
            caller: Caller::default(),
            taker: None,
            guesses: Vec::new(),
            handler: None,
            tells: number % 2 == 1,
            refused: false,
        }
    }

    pub(crate) fn telling(self) -> Self {
        Self { tells: true, ..self }
    }

    pub(crate) fn request(&self) -> OutgoingRequest {
        let endpoint = EndpointName::new("a", "b", "c").unwrap();
        let mut request = OutgoingRequest::new(endpoint, InstanceId(1), self.body.clone());
        request.window = Some(self.window);
        request
    }

    /// The request has arrived.
    pub(crate) fn serve(&mut self, request: ReceivedRequest<Manual>) {
        assert!(self.handler.is_none(), "a request was handed to a handler twice");
        assert!(!self.refused, "a request ran that was said not to run");
        assert!(self.caller.is_opened());
        assert_eq!(request.opened.open.window, self.window);
        assert_eq!(request.opened.body, self.body);
        let said = self.said();
        let handler = self.handler.insert(Handler::new(request));
        if !said.is_empty() {
            handler.tell(&said);
        }
    }

    /// The caller takes what has arrived, and compares it with what was made.
    pub(crate) fn take(&mut self, conditions: Conditions) {
        let had_ended = self.has_ended();
        let made = self.handler.as_ref().map_or(&[][..], |handler| &handler.made);
        self.caller.poll(made);
        self.check_head();
        self.check_checkpoint(&self.caller);
        if !had_ended && self.has_ended() {
            self.check_end(conditions);
        }
    }

    /// The second process takes what has arrived.
    pub(crate) fn take_taken_over(&mut self, conditions: Conditions) {
        let Some(mut taker) = self.taker.take() else { return };
        let had_ended = taker.has_ended();
        let made = self.handler.as_ref().map_or(&[][..], |handler| &handler.made);
        taker.poll(made);
        taker.check_head(&self.said());
        self.check_checkpoint(&taker.caller);
        if !had_ended && taker.has_ended() {
            taker.check_end(self.handler.as_ref(), (&self.said(), conditions));
        }
        self.taker = Some(taker);
    }

    fn check_checkpoint(&self, caller: &Caller) {
        let handler = self.handler.as_ref();
        if let Some((checkpoint, handler)) = caller.checkpoint().zip(handler) {
            handler.check_checkpoint(checkpoint);
        }
    }

    /// The second process may have the stream, or get it.
    pub(crate) fn has_taker(&self) -> bool {
        self.taker.as_ref().is_some_and(|taker| !taker.is_refused())
    }

    /// What its handler says with head and facts.
    fn said(&self) -> Headers {
        let mut said = Headers::new();
        if self.tells {
            said.insert("stream", &self.id.0.to_string()).unwrap();
        }
        said
    }

    /// A head is the handler's, and is there before the items.
    fn check_head(&self) {
        let head = self.caller.head();
        let said = self.said();
        assert!(head.is_none_or(|head| head.is_empty() || *head == said), "{head:?}");
        if self.caller.taken() > 0 {
            assert_eq!(head, Some(&said), "an item without the head before it");
        }
    }

    /// The handler makes an item.
    pub(crate) fn push(&mut self, len: usize) {
        if let Some(handler) = &mut self.handler {
            handler.push(item(self.id.0, handler.made.len(), len));
        }
    }

    /// The handler makes a run of items.
    pub(crate) fn push_run(&mut self, lens: &[usize]) {
        if let Some(handler) = &mut self.handler {
            let first = handler.made.len();
            let items = lens.iter().enumerate();
            handler.push_run(items.map(|(at, len)| item(self.id.0, first + at, *len)).collect());
        }
    }

    /// The handler makes one last item once it may, and ends its response.
    pub(crate) fn wind_up(&mut self) {
        let Some(handler) = &mut self.handler else { return };
        // One that nobody listens to any more has to hear of it.
        let is_read = self.taker.as_ref().is_some_and(Taker::reads);
        if is_read || !self.caller.is_abandoned() || handler.context().is_killed() {
            handler.wind_up(item(self.id.0, handler.made.len(), 7));
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.caller.ended().is_some()
    }

    /// Its caller has its end, or nobody works for it any more.
    pub(crate) fn is_over(&self) -> bool {
        let is_left = self.caller.is_abandoned()
            || self.taker.as_ref().is_some_and(|taker| taker.caller.is_abandoned());
        let is_told = !is_left || self.handler.as_ref().is_none_or(Handler::has_ended);
        is_told && self.is_read()
    }

    /// Of two consumers that are both alive one has the end.
    pub(crate) fn check_that_one_has_the_end(&self, conditions: Conditions) {
        let Some(taker) = &self.taker else { return };
        let is_lost = |caller: &Caller| matches!(caller.ended(), Some(Ended::Lost(_)));
        let is_kept = conditions.resumes && !conditions.expired && self.handler.is_some();
        let is_kept = is_kept && !conditions.is_late;
        let both = is_lost(&self.caller) && is_lost(&taker.caller);
        assert!(!is_kept || !both, "each was told that it does not get the stream");
    }

    /// Nobody waits for more of it.
    pub(crate) fn is_read(&self) -> bool {
        let is_read = |caller: &Caller| caller.ended().is_some() || caller.is_abandoned();
        is_read(&self.caller) && self.taker.iter().all(|taker| is_read(&taker.caller))
    }

    /// What is not consumed is bounded by the window.
    pub(crate) fn check(&self) {
        let Some(handler) = &self.handler else { return };
        let taken_over = self.taker.iter().filter(|taker| !taker.is_refused());
        let consumed = taken_over.map(Taker::consumed).fold(self.caller.consumed(), usize::max);
        let items = handler.made.get(consumed..).unwrap_or_default();
        let (most_items, most_bytes) = self.most();
        assert!(items.len() <= most_items, "{} items of {most_items}", items.len());
        if let Some((_, before)) = items.split_last() {
            let bytes: usize = before.iter().map(Bytes::len).sum();
            assert!(bytes < most_bytes, "{bytes} bytes of {most_bytes} before the last item");
        }
    }

    fn most(&self) -> (usize, usize) {
        let items = self.window.items.min(LIMIT.items);
        (items as usize, self.window.bytes.min(LIMIT.bytes) as usize)
    }

    /// The most memory that either end may hold for its items.
    pub(crate) fn most_held(&self) -> usize {
        let (items, bytes) = self.most();
        // The one that was sent last, and two that are to be sent.
        let checkpoints = 3 * self.handler.as_ref().map_or(0, Handler::longest_checkpoint);
        items * ITEM_COST_BYTES + bytes + MAX_ITEM + SLACK_BYTES + checkpoints
    }

    /// The end is the one that was declared, or the one that the truth allows.
    fn check_end(&mut self, conditions: Conditions) {
        match self.caller.ended().unwrap().clone() {
            Ended::Lost(error) => self.check_lost(&error, conditions),
            Ended::Terminal(terminal) => match &self.handler {
                Some(handler) => {
                    handler.check_end(&terminal, self.caller.taken());
                    assert_eq!(self.caller.facts(), &self.said(), "{terminal:?}");
                    let checkpoint = self.caller.checkpoint();
                    handler.check_newest_checkpoint(checkpoint, self.caller.taken());
                }
                None => {
                    let Terminal::Cancelled { reason: CancelReason::Caller } = terminal else {
                        panic!("{terminal:?}, and no handler saw the request");
                    };
                    assert!(self.caller.is_cancelled());
                }
            },
        }
    }

    fn check_lost(&mut self, error: &Error, conditions: Conditions) {
        assert!(matches!(error.code(), Code::Truncated | Code::ConnectionLost), "{error:?}");
        let started = self.caller.taken() > 0;
        assert!(!started || error.code() == Code::Truncated, "{error:?}");
        if error.executed() == Executed::No {
            assert!(self.handler.is_none(), "said not to run, and a handler has it");
            self.refused = true;
        }
        if conditions.resumes && !conditions.expired && !self.has_taker() {
            assert!(self.handler.is_none(), "lost, and it could have come back: {error:?}");
            // A longer body may have been lost on its way.
            let was_sent = self.body.len() <= 8 << 10;
            assert!(!was_sent || self.refused || conditions.gave_away, "{error:?}");
        }
    }
}
