//! Takes the requests of a peer in, up to their handlers.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use sinew_plane::{Code, Context, Error, Terminal};

use super::{Connection, Driver, ReceivedRequest, Serving, streams::Streams};
use crate::{Effects, Opened, session::duplicate, stream::ProducerStream};

/// Request bodies up to this many bytes are copied out of the read buffer, because a handler may
/// hold on to its request for long.
const COPY_BODY_BYTES: usize = 4 << 10;

impl<D: Driver> Connection<D> {
    /// Admits a request or refuses it.
    pub(super) fn take_request(
        self: &Arc<Self>,
        streams: &mut Streams<D>,
        mut opened: Box<Opened>,
        effects: &mut Effects<D>,
    ) {
        let Opened { stream, open, body, is_charged } = &mut *opened;
        let stream = *stream;
        let request_bytes = if *is_charged { 0 } else { body.len() };
        if let Some(error) = self.refusal(streams) {
            return self.reject(stream, &error);
        }
        if let Some(session) = self.session.get()
            && !session.begin(open.id, stream)
        {
            // No reject: that says that nothing ran, and sends the request elsewhere.
            let error = duplicate(open.id);
            self.driver.on_refused(error.fault());
            let terminal = Terminal::Failed { error };
            return self.out.lock().outbound.terminal(stream, &terminal, 0);
        }
        if let Err(error) = streams.admit(request_bytes, self.account.as_ref()) {
            if let Some(session) = self.session.get() {
                session.withdraw(open.id);
            }
            return self.reject(stream, &error);
        }
        drop(streams.gone.pop());
        let mut builder = Context::builder().id(open.id).headers(open.headers.clone());
        if let Some(remaining) = open.remaining {
            builder = builder.timeout(remaining);
        }
        let connection = Arc::clone(self);
        let response = (stream, &*open, request_bytes);
        let response = ProducerStream::new(response, connection, builder.build());
        streams.responses.insert(stream, Arc::clone(&response));
        self.active.fetch_add(1, Ordering::AcqRel);
        if self.serving == Serving::Admits {
            let Streams { responses, unanswered, .. } = streams;
            effects.watch |= unanswered.push(stream, |stream| responses.contains_key(stream));
        }
        if body.len() <= COPY_BODY_BYTES {
            *body = Bytes::copy_from_slice(body);
        }
        effects.requests.push(ReceivedRequest { response, opened });
    }

    fn refusal(&self, streams: &Streams<D>) -> Option<Error> {
        if self.serving == Serving::Nothing {
            return Some(Error::new(Code::UnknownEndpoint, "this side serves nothing"));
        }
        // Closed: the streams have their ends, and another one would get none.
        if streams.draining || streams.closed {
            return Some(Error::draining("the server is draining"));
        }
        if streams.responses.len() >= self.limits.max_streams {
            return Some(Error::new(Code::Overloaded, "too many streams on this connection"));
        }
        None
    }

    /// Sends the acceptance to callers that have waited for it for a while. False if no stream
    /// waits.
    pub fn accept_admitted(&self) -> bool {
        let mut waiting = Vec::new();
        let more = {
            let Streams { responses, unanswered, .. } = &mut *self.streams.lock();
            unanswered.look(|stream| waiting.extend(responses.get(&stream).map(Arc::clone)))
        };
        for response in waiting {
            sinew_plane::SinkTarget::accept(&*response);
        }
        more
    }
}
