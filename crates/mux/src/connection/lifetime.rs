//! The end of a connection, and how its streams end with it.

use std::{sync::Arc, time::Instant};

use rustc_hash::FxHashMap;
use sinew_plane::{CancelReason, Error, ProcessId, ResumeReason, StopKind, budget::Account};

use super::{Connection, Driver, Limits};
use crate::{
    ConnectionError, Detached,
    session::{Loss, Lost},
    stream::{CallerStream, ProducerStream},
};

impl<D: Driver> Connection<D> {
    /// True once no new stream can be opened.
    pub fn is_retired(&self) -> bool {
        self.out.lock().outbound.is_retired()
    }

    /// True once the peer has said that it drains: it has sent a goaway for that.
    pub fn peer_leaves(&self) -> bool {
        self.streams.lock().peer_leaves
    }

    /// Takes no new streams from the peer, and sends it a goaway: streams above `last_stream` were
    /// not begun. Open streams continue.
    pub fn drain(&self, last_stream: u32) {
        if std::mem::replace(&mut self.streams.lock().draining, true) {
            return;
        }
        self.go_away(last_stream, &Error::draining("the server is draining"));
        D::transmit(self);
    }

    /// Takes no new streams from the peer, and refuses each that it opens. Without a goaway the peer
    /// may attach streams here that have lost their connection.
    pub fn refuse_new(&self) {
        self.streams.lock().draining = true;
    }

    /// How many streams have ended of which the peer has not said that it has the end. From the first
    /// call on, [`Driver::on_idle`] is called as well when the peer has said so of the last.
    pub fn unacknowledged(&self) -> usize {
        let mut streams = self.streams.lock();
        streams.tells_ends = true;
        streams.finished.len()
    }

    /// Sends the peer a goaway: streams above `last_stream` were not begun, for the reason `error`.
    pub fn go_away(&self, last_stream: u32, error: &Error) {
        self.out.lock().outbound.go_away(last_stream, error);
    }

    /// Queues the goaway for a peer that broke the protocol.
    pub fn refuse_peer(&self, error: &ConnectionError) {
        self.out.lock().outbound.close(error);
    }

    /// Sends the peer a ping.
    pub fn ping(&self, token: u64) {
        self.out.lock().outbound.ping(token);
    }

    /// Bytes of answers to the peer that wait to be written; `None` if nothing can be written any
    /// more.
    pub fn answer_bytes(&self) -> Option<usize> {
        let out = self.out.lock();
        (!out.is_broken).then(|| out.outbound.answer_bytes())
    }

    /// Handles the loss of the carrier. No stream can be opened any more. If both ends keep
    /// streams, the open streams wait for another connection to the same peer; otherwise they end
    /// with `error`. `why` says what kind of loss it is, for those who count.
    pub fn lost(&self, error: &Error, why: ResumeReason, now: Instant) {
        let kept_from = self.resumes().then_some((now, why));
        self.end_streams(error, kept_from);
    }

    /// Takes no further stream and ends the open ones with `error`.
    pub fn end(&self, error: &Error) {
        self.end_streams(error, None);
    }

    /// What the streams that are kept have to know of the loss of this connection.
    pub(super) fn loss<'a>(&self, now: Instant, error: &'a Error) -> Loss<'a> {
        let Limits { grace, max_streams: most, .. } = self.limits;
        Loss { now, grace, most, error }
    }

    /// Streams that come back are kept from `kept_from` on; without it none is.
    fn end_streams(&self, error: &Error, kept_from: Option<(Instant, ResumeReason)>) {
        let (calls, responses, finished, mut waiting, _gone) = {
            let mut streams = self.streams.lock();
            streams.closed = true;
            // Each of them holds this connection, so they must not stay in it.
            let gone = std::mem::take(&mut streams.gone);
            // No longer usable from here on: who wants a stream dials anew.
            self.out.lock().outbound.on_go_away();
            let calls = std::mem::take(&mut streams.calls);
            let mut responses = streams.take_responses(self.account.as_ref());
            let mut finished = streams.take_all_finished();
            // Under the lock: an attach finds each stream either here or among those that are kept.
            let kept = kept_from.is_some_and(|(now, _)| {
                self.keep_responses(&mut responses, &mut finished, error, now)
            });
            (calls, responses, finished, kept, gone)
        };
        match (kept_from, &self.detached) {
            (Some(loss), Some(detached)) => {
                waiting |= self.keep_calls(calls, detached, error, loss);
            }
            _ => self.end_calls(calls, error),
        }
        for (_, response) in responses {
            self.drop_id(&response);
            response.on_connection_lost(error);
            self.stream_gone();
        }
        // Those that run among them were given up here.
        for response in finished {
            self.drop_id(&response);
            response.on_connection_lost(error);
        }
        if waiting {
            self.driver.on_detached();
        }
    }

    /// Keeps the streams of the peer for it, if there is room. True when there was any.
    fn keep_responses(
        &self,
        responses: &mut FxHashMap<u32, Arc<ProducerStream<D>>>,
        finished: &mut Vec<Arc<ProducerStream<D>>>,
        error: &Error,
        now: Instant,
    ) -> bool {
        let Some((session, sessions)) = self.session.get().zip(self.sessions.get()) else {
            return false;
        };
        // With a budget that is spent, what perhaps nobody comes back for goes first.
        if self.account.as_ref().is_some_and(|account| is_spent(account)) {
            return false;
        }
        (0..responses.len()).for_each(|_| self.stream_gone());
        let streams = responses.drain().map(|(_, response)| response).chain(finished.drain(..));
        let streams: Vec<_> = streams.inspect(|response| response.detach()).collect();
        let any = !streams.is_empty();
        *finished = sessions.keep(session, streams, &self.loss(now, error));
        any
    }

    /// Has the streams of this side wait for another connection. True when any does.
    fn keep_calls(
        &self,
        calls: FxHashMap<u32, Arc<CallerStream<D>>>,
        detached: &Detached<D>,
        error: &Error,
        (now, reason): (Instant, ResumeReason),
    ) -> bool {
        let process = self.peer().map_or(ProcessId::UNKNOWN, |hello| hello.process);
        let mut kept = Vec::new();
        for (_, call) in calls {
            match call.grace().until(now, self.limits.grace) {
                Some(until) if call.detach(error) => {
                    let error = error.clone();
                    let (stream, since) = (call, now);
                    kept.push(Lost { stream, error, process, since, until, reason });
                }
                _ => end_call(&call, error),
            }
            self.stream_gone();
        }
        let any = !kept.is_empty();
        if any {
            detached.keep(kept);
        }
        any
    }

    fn end_calls(&self, calls: FxHashMap<u32, Arc<CallerStream<D>>>, error: &Error) {
        // A peer that keeps streams for those who come back is told that nobody will.
        let resumes = self.resumes();
        for (stream, call) in calls {
            if resumes {
                let (kind, reason) = (StopKind::Kill, CancelReason::Disconnected);
                self.out.lock().outbound.cancel(stream, kind, reason);
            }
            end_call(&call, error);
            self.stream_gone();
        }
    }

    /// Takes no further stream if none is open. False if one is.
    pub fn retire_if_idle(&self) -> bool {
        let mut streams = self.streams.lock();
        if !streams.is_empty() {
            return false;
        }
        // From here on a stream cannot be opened, so none can be lost.
        streams.closed = true;
        self.out.lock().outbound.on_go_away();
        true
    }

    /// Frees empty buffers and tables.
    pub fn shrink(&self) {
        let mut streams = self.streams.lock();
        streams.shrink();
        let mut out = self.out.lock();
        out.outbound.shrink();
        if out.forgotten.is_empty() {
            out.forgotten = Vec::new();
        }
    }

    /// A response has ended and was handed to the outbox.
    pub(crate) fn remove_response(&self, stream: u32) {
        let resumes = self.resumes();
        let (ended, forgotten) = {
            let mut streams = self.streams.lock();
            match streams.take_response(stream, self.account.as_ref()) {
                Some(response) if resumes => (true, streams.keep_finished(stream, response)),
                response => (response.is_some(), response),
            }
        };
        match forgotten {
            // Its peer has not said that it has the end.
            Some(response) if resumes => self.drop_id(&response),
            Some(response) => self.forget_id(&response),
            None => {}
        }
        if ended {
            self.stream_gone();
        }
    }

    pub(super) fn drop_id(&self, response: &Arc<ProducerStream<D>>) {
        if let Some(session) = self.session.get() {
            session.drop_stream(response.id());
        }
    }

    /// The id of a stream that has ended is kept for a while only.
    pub(super) fn forget_id(&self, response: &Arc<ProducerStream<D>>) {
        if let Some(session) = self.session.get() {
            session.end(response.id());
        }
    }
}

fn end_call<D: Driver>(call: &CallerStream<D>, error: &Error) {
    if let Some(waker) = call.on_connection_lost(error) {
        waker.wake();
    }
}

fn is_spent(account: &Account) -> bool {
    account.budget().admit().is_err()
}
