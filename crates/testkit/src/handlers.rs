//! Request handlers that cases, and tests elsewhere, serve with.
//!
//! Each request is answered in a task of its own on the runtime that the handler was made on;
//! the task ends with that runtime.

use std::sync::Arc;

use bytes::Bytes;
use sinew_plane::{
    Context, Error, IncomingRequest, InstanceId, RequestHandler, ResponseSink, TransportId,
};
use tokio::runtime::Handle;

use crate::payload::numbered;

/// A request in the hands of a task.
#[derive(Debug)]
pub struct Call {
    /// What is called.
    pub endpoint: String,
    /// Which instance is meant.
    pub instance: InstanceId,
    /// The payload.
    pub body: Bytes,
    /// Cancel, deadline, headers, id.
    pub context: Context,
    /// How it came.
    pub transport: TransportId,
    /// 0 for the first try.
    pub attempt: u8,
    /// Where the answer goes.
    pub sink: ResponseSink,
}

impl Call {
    /// Takes over what a handler was given.
    pub fn new(request: IncomingRequest<'_>, sink: ResponseSink) -> Self {
        Self {
            endpoint: request.endpoint.to_owned(),
            instance: request.instance,
            body: request.body,
            context: request.context,
            transport: request.transport.clone(),
            attempt: request.attempt,
            sink,
        }
    }

    /// The body as a decimal number; 0 when it is none.
    pub fn number(&self) -> u64 {
        std::str::from_utf8(&self.body).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// Answers each request with an async function, which has to use the sink: an `async move` block
/// captures only those fields of the [`Call`] that it uses. If the sink is not among them, it is
/// dropped, and the stream ends.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn spawned<F, Fut>(answer: F) -> Arc<dyn RequestHandler>
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    // A transport may call from a thread that knows no runtime.
    let runtime = Handle::current();
    Arc::new(move |request: IncomingRequest<'_>, sink: ResponseSink| {
        runtime.spawn(answer(Call::new(request, sink)));
    })
}

/// Sends the body back as the only item.
pub fn echo() -> Arc<dyn RequestHandler> {
    spawned(|mut call| async move {
        match call.sink.send(call.body).await {
            Ok(()) => call.sink.complete(),
            Err(error) => call.sink.fail(error),
        }
    })
}

/// Reads the body as a decimal number and sends that many [`numbered`] items.
pub fn counting() -> Arc<dyn RequestHandler> {
    spawned(|mut call| async move {
        for number in 0..call.number() {
            if call.sink.send(numbered(number)).await.is_err() {
                return;
            }
        }
        call.sink.complete();
    })
}

/// Sends as many [`numbered`] items as the body says, then fails.
pub fn failing(error: Error) -> Arc<dyn RequestHandler> {
    spawned(move |mut call| {
        let error = error.clone();
        async move {
            for number in 0..call.number() {
                if call.sink.send(numbered(number)).await.is_err() {
                    return;
                }
            }
            call.sink.fail(error);
        }
    })
}

/// Refuses every request.
pub fn refusing(error: Error) -> Arc<dyn RequestHandler> {
    Arc::new(move |_: IncomingRequest<'_>, sink: ResponseSink| sink.reject(error.clone()))
}

/// Sends as many [`numbered`] items as the body says, then waits until it is stopped and ends as
/// cancelled.
pub fn parked() -> Arc<dyn RequestHandler> {
    spawned(|mut call| async move {
        for number in 0..call.number() {
            if call.sink.send(numbered(number)).await.is_err() {
                return;
            }
        }
        call.context.stopped().await;
        // Dropped after a cancel, a sink ends its stream as cancelled.
    })
}
