//! Handing the requests of a peer to the handler.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use parking_lot::MutexGuard;
use sinew_mux::Opened;
use sinew_plane::{Code, Context, Error, IncomingRequest, ResponseSink, SinkTarget};

use crate::{
    connection::{Connection, Streams},
    response::Response,
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
    let refusal = refuse(connection, &streams);
    let refusal =
        refusal.or_else(|| streams.admit(request_bytes, connection.account.as_ref()).err());
    if let Some(error) = refusal {
        connection.out.lock().outbound.reject(stream, &error);
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
    drop(streams);
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

fn refuse(connection: &Connection, streams: &Streams) -> Option<Error> {
    if connection.handler.is_none() {
        return Some(Error::new(Code::UnknownEndpoint, "this side serves nothing"));
    }
    // Closed: the streams were told, and nobody would tell another one.
    if streams.draining || streams.closed {
        return Some(Error::draining("the server is draining"));
    }
    if streams.responses.len() >= connection.config.mux.max_streams as usize {
        return Some(Error::new(Code::Overloaded, "too many streams on this connection"));
    }
    None
}
