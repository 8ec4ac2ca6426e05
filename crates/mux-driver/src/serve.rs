//! Handing the requests of a peer to the handler.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use parking_lot::MutexGuard;
use sinew_mux::Opened;
use sinew_plane::{Code, Context, Error, IncomingRequest, ResponseSink, SinkTarget, Terminal};

use crate::{
    connection::{Connection, Streams},
    response::Response,
    stream_ids::duplicate,
};

/// Request bodies up to this many bytes are copied out of the read buffer, because a handler may
/// hold on to its request for long.
const COPY_BODY_BYTES: usize = 4 << 10;

/// Hands a request to the handler, without the lock: the handler may answer at once.
pub(crate) fn serve<'a>(
    connection: &'a Arc<Connection>,
    mut streams: MutexGuard<'a, Streams>,
    opened: Opened,
) -> MutexGuard<'a, Streams> {
    let Opened { stream, open, body, is_charged } = opened;
    let request_bytes = if is_charged { 0 } else { body.len() };
    if let Some(error) = refuse(connection, &streams) {
        connection.reject(stream, &error);
        return streams;
    }
    if let Some(ids) = connection.ids.get()
        && !ids.lock().begin(open.id)
    {
        // No reject: that says that nothing ran, and sends the request elsewhere.
        let error = duplicate(open.id);
        connection.sending.meter.refused(error.fault());
        let terminal = Terminal::Failed { error };
        connection.out.lock().outbound.terminal(stream, &terminal, 0);
        return streams;
    }
    if let Err(error) = streams.admit(request_bytes, connection.account.as_ref()) {
        if let Some(ids) = connection.ids.get() {
            ids.lock().withdraw(open.id);
        }
        connection.reject(stream, &error);
        return streams;
    }
    let mut builder = Context::builder().id(open.id).headers(open.headers.clone());
    if let Some(remaining) = open.remaining {
        builder = builder.timeout(remaining);
    }
    let context = builder.build();
    let response =
        Response::new(stream, Arc::clone(connection), context.clone(), open.window, request_bytes);
    streams.responses.insert(stream, Arc::clone(&response));
    connection.active.fetch_add(1, Ordering::AcqRel);
    let begins_to_watch = connection.decides_at_once && {
        let Streams { responses, unanswered, .. } = &mut *streams;
        unanswered.push(stream, |stream| responses.contains_key(stream))
    };
    drop(streams);
    if begins_to_watch {
        connection.watch.store(true, Ordering::Release);
        connection.writer.notify_one();
    }
    let sink = ResponseSink::new(response as Arc<dyn SinkTarget>, context.clone());
    let body = if body.len() <= COPY_BODY_BYTES { Bytes::copy_from_slice(&body) } else { body };
    if let Some(handler) = &connection.handler {
        let request = IncomingRequest {
            endpoint: open.endpoint(),
            instance: open.instance,
            body,
            context,
            transport: &connection.transport,
            attempt: open.attempt,
        };
        // A bug in a handler costs its own request: the sink is dropped on the way out.
        let handled = AssertUnwindSafe(|| handler.handle(request, sink));
        if std::panic::catch_unwind(handled).is_err() {
            tracing::error!("a request handler panicked");
        }
    }
    connection.streams.lock()
}

impl Connection {
    /// Refuses a request that no handler has seen.
    pub(crate) fn reject(&self, stream: u32, error: &Error) {
        self.sending.meter.refused(error.fault());
        self.out.lock().outbound.reject(stream, error);
    }
}

fn refuse(connection: &Connection, streams: &Streams) -> Option<Error> {
    if connection.handler.is_none() {
        return Some(Error::new(Code::UnknownEndpoint, "this side serves nothing"));
    }
    // Closed: the streams have their ends, and another one would get none.
    if streams.draining || streams.closed {
        return Some(Error::draining("the server is draining"));
    }
    if streams.responses.len() >= connection.config.mux.max_streams as usize {
        return Some(Error::new(Code::Overloaded, "too many streams on this connection"));
    }
    None
}
