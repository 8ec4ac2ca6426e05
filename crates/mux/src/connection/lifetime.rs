//! The end of a connection, in order or not, and what its streams learn of it.

use std::sync::Arc;

use sinew_plane::Error;

use super::{Connection, Driver};
use crate::{ConnectionError, stream::ProducerStream};

impl<D: Driver> Connection<D> {
    /// True while new streams can be opened.
    pub fn is_retired(&self) -> bool {
        self.out.lock().outbound.is_retired()
    }

    /// Takes no new streams from the peer, and tells it that those above `last_stream` were not
    /// begun. What runs goes on.
    pub fn drain(&self, last_stream: u32) {
        if std::mem::replace(&mut self.streams.lock().draining, true) {
            return;
        }
        self.go_away(last_stream, &Error::draining("the server is draining"));
        D::transmit(self);
    }

    /// Tells the peer that streams above `last_stream` were not begun, and why.
    pub fn go_away(&self, last_stream: u32, error: &Error) {
        self.out.lock().outbound.go_away(last_stream, error);
    }

    /// Puts the last word to a peer that broke the protocol in line.
    pub fn refuse_peer(&self, error: &ConnectionError) {
        self.out.lock().outbound.close(error);
    }

    /// Asks the peer whether it is there.
    pub fn ping(&self, token: u64) {
        self.out.lock().outbound.ping(token);
    }

    /// Bytes of the answers to the peer that wait to be written; `None` when nothing can be written
    /// any more.
    pub fn answer_bytes(&self) -> Option<usize> {
        let out = self.out.lock();
        (!out.is_broken).then(|| out.outbound.answer_bytes())
    }

    /// Takes no stream any more and ends those that run, for the reason given.
    pub fn lost(&self, error: &Error) {
        let (calls, responses) = {
            let mut streams = self.streams.lock();
            streams.closed = true;
            // No longer usable from here on: who wants a stream dials anew.
            self.out.lock().outbound.on_go_away();
            let responses = streams.take_responses(self.account.as_ref());
            (std::mem::take(&mut streams.calls), responses)
        };
        for (_, call) in calls {
            if let Some(waker) = call.on_connection_lost(error) {
                waker.wake();
            }
            self.stream_gone();
        }
        for (_, response) in responses {
            self.forget_id(&response);
            response.on_connection_lost(error);
            self.stream_gone();
        }
    }

    /// Takes no stream any more, unless one runs. False when one does.
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

    /// Lets go of buffers and tables that nothing is in.
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
        let removed = self.streams.lock().take_response(stream, self.account.as_ref());
        if let Some(response) = removed {
            self.forget_id(&response);
            self.stream_gone();
        }
    }

    /// The id of a stream that has ended is kept for a while only.
    fn forget_id(&self, response: &Arc<ProducerStream<D>>) {
        if let Some(ids) = self.ids.get() {
            ids.lock().end(response.id());
        }
    }
}
