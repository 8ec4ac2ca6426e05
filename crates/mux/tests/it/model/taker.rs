//! The second process as the consumer of a stream of the model that the first has opened.

use std::sync::Arc;

use bytes::Bytes;
use sinew_mux::Connection;
use sinew_plane::{
    CallLimits, Code, Context, Error, Executed, Headers, ResumeRequest, ResumeToken, Terminal,
    Window,
};

use super::{
    caller::Caller,
    handler::Handler,
    stream::{Conditions, Ended, Stream},
};
use crate::manual::Manual;

pub(crate) struct Taker {
    pub(crate) caller: Caller,
    /// The first item that it asked for.
    from: usize,
}

impl Stream {
    /// Another process takes the stream over. One that was refused may try again.
    pub(crate) fn take_over(&mut self, connection: &Arc<Connection<Manual>>, shift: isize) {
        let is_free = self.taker.as_ref().is_none_or(Taker::is_refused);
        let Some(token) = self.caller.token().filter(|_| is_free) else { return };
        let from = self.caller.taken().saturating_add_signed(shift);
        let request = self.request_from(token.at(from as u64));
        if let Ok(call) = connection.try_take_over(&request).unwrap() {
            let mut caller = Caller::default();
            caller.open(call);
            self.taker = Some(Taker { caller, from });
        }
    }

    pub(crate) fn request_from(&self, token: ResumeToken) -> ResumeRequest {
        let (context, limits) = (Context::new(), CallLimits::default());
        // Less than the caller has granted: what is under way already has to be taken all the same.
        let Window { items, bytes } = self.window;
        let window = Window { items: items.div_ceil(4), bytes: bytes.div_ceil(4) };
        ResumeRequest { token, context, window: Some(window), limits }
    }

    /// Why nobody asks for the stream from an item on over this connection.
    pub(crate) fn ask_for(&self, item: u64, connection: &Arc<Connection<Manual>>) -> Error {
        let token = self.caller.token().unwrap().at(item);
        match connection.try_take_over(&self.request_from(token)) {
            Ok(_) => panic!("it asks for it"),
            Err(error) => error,
        }
    }

    /// Something that the second process does with the stream.
    pub(crate) fn with_taker(&mut self, act: impl FnOnce(&mut Caller)) {
        if let Some(taker) = &mut self.taker {
            act(&mut taker.caller);
        }
    }
}

impl Taker {
    pub(crate) fn is_woken(&self) -> bool {
        self.caller.is_woken()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.caller.ended().is_some()
    }

    /// It was told that it does not get the stream. One that has lost its connection may have had it.
    pub(crate) fn is_refused(&self) -> bool {
        match self.caller.ended() {
            Some(Ended::Terminal(Terminal::Failed { error })) => {
                error.code() == Code::ResumeExpired
            }
            _ => false,
        }
    }

    /// It waits for the end of the stream.
    pub(crate) fn reads(&self) -> bool {
        !self.has_ended() && !self.caller.is_abandoned()
    }

    /// Items of the stream that the producer may know to be consumed.
    pub(crate) fn consumed(&self) -> usize {
        self.from + self.caller.consumed()
    }

    /// Takes what has arrived: the items that were made, from the first on that it asked for.
    pub(crate) fn poll(&mut self, made: &[Bytes]) {
        self.caller.poll(made.get(self.from..).unwrap_or_default());
    }

    /// A head goes to the one that has no item.
    pub(crate) fn check_head(&self, said: &Headers) {
        let head = self.caller.head();
        assert!(head.is_none_or(|head| head.is_empty() || head == said), "{head:?}");
        if self.from == 0 && self.caller.taken() > 0 {
            assert_eq!(head, Some(said), "an item without the head before it");
        }
    }

    /// Either it has the true end, or it was refused the stream.
    pub(crate) fn check_end(
        &self,
        handler: Option<&Handler>,
        (said, conditions): (&Headers, Conditions),
    ) {
        match self.caller.ended().unwrap() {
            Ended::Terminal(Terminal::Failed { error }) if error.code() == Code::ResumeExpired => {
                self.check_refused(error, handler);
            }
            Ended::Terminal(terminal) => {
                let handler = handler.unwrap();
                let items = self.from + self.caller.taken();
                handler.check_end(terminal, items);
                handler.check_newest_checkpoint(self.caller.checkpoint(), items);
                assert_eq!(self.caller.facts(), said, "{terminal:?}");
            }
            Ended::Lost(error) => {
                let is_kept = conditions.resumes && !conditions.expired;
                assert!(!is_kept || !self.caller.is_started(), "{error:?}");
                assert_ne!(error.executed(), Executed::No, "another process has opened it");
            }
        }
    }

    fn check_refused(&self, error: &Error, handler: Option<&Handler>) {
        assert_eq!(self.caller.taken(), 0, "it had the stream: {error:?}");
        assert_ne!(error.executed(), Executed::No, "another process has opened it");
        if let Some((oldest, newest)) = error.resume_window() {
            let made = handler.map_or(0, |handler| handler.made.len() as u64);
            assert!(oldest <= newest && newest <= made, "{oldest} to {newest} of {made}");
            assert!(!(oldest..=newest).contains(&(self.from as u64)), "{} is there", self.from);
        }
    }
}
