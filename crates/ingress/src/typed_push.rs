//! Push engines of values: requests are decoded for them, and the sink encodes the items.

use std::{
    marker::PhantomData,
    task::{self, Poll},
};

use bytes::Bytes;
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_plane::{
    Context, Error, Executed, PushEngine, Refused, ResponseSink, SingleIn, TrySendError,
};

use crate::payload::{self, Encoder, payload_error};

/// A push engine from a function that stores typed sinks. Serve it as a
/// [`PushEngineHandler`](crate::PushEngineHandler).
///
/// The request is decoded in the reader task of its transport, which delays the next requests of
/// the connection. For bodies of many MiB use a [`PushHandler`](crate::PushHandler), which has a
/// task for each request.
pub struct TypedPush<Req, Resp, F> {
    accept: F,
    types: PhantomData<fn(Req) -> Resp>,
}

impl<Req, Resp, F> TypedPush<Req, Resp, F>
where
    F: Fn(SingleIn<Req>, ValueSink<Resp>) -> Result<(), ValueRefused<Resp>> + Send + Sync,
{
    /// Makes a push engine that calls `accept`, which must return at once.
    pub fn new(accept: F) -> Self {
        Self { accept, types: PhantomData }
    }
}

/// The error of a push engine that refuses a request, with the sink of the request.
pub type ValueRefused<T> = Box<(Error, ValueSink<T>)>;

impl<Req, Resp, F> PushEngine for TypedPush<Req, Resp, F>
where
    Req: DeserializeOwned + 'static,
    F: Fn(SingleIn<Req>, ValueSink<Resp>) -> Result<(), ValueRefused<Resp>> + Send + Sync,
{
    fn accept(&self, request: SingleIn<Bytes>, sink: ResponseSink) -> Result<(), Refused> {
        let (body, context) = request.into_parts();
        let read = payload::format_of(context.headers()).and_then(|format| {
            let value = payload::decode::<Req>(format, body);
            Ok((format, value.map_err(|error| payload_error("the request", &error))?))
        });
        let (format, value) = match read {
            Ok(read) => read,
            Err(error) => return Err(Box::new((error, sink))),
        };
        let request = SingleIn::with_context(value, context);
        let sink = ValueSink { sink, encoder: Encoder::new(format), values: PhantomData };
        (self.accept)(request, sink).map_err(|refused| {
            let (error, sink) = *refused;
            Box::new((error, sink.sink))
        })
    }
}

/// The response stream of one request as its producer holds it, for values: a [`ResponseSink`]
/// that encodes them in the format of the request. Dropping it without an end fails the stream.
pub struct ValueSink<T> {
    sink: ResponseSink,
    encoder: Encoder,
    values: PhantomData<fn(T)>,
}

/// Why a value was not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrySendValueError {
    /// The window is full: the caller has to take items first. The value may be sent again later.
    Full,
    /// The value cannot be encoded. The stream goes on without it.
    Invalid(Error),
    /// The stream is over, cancelled or lost.
    Closed(Error),
}

impl std::fmt::Display for TrySendValueError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("the window of the response is full"),
            Self::Invalid(error) | Self::Closed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TrySendValueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Full => None,
            Self::Invalid(error) | Self::Closed(error) => Some(error),
        }
    }
}

impl<T: Serialize + 'static> ValueSink<T> {
    /// Sends a value, waiting for credit, and lets it leave. Cancel-safe: if the future is dropped,
    /// the value was not sent.
    ///
    /// # Errors
    /// The value cannot be encoded, and the stream goes on; or as [`ResponseSink::send`].
    pub async fn send(&mut self, value: &T) -> Result<(), Error> {
        let item = self.encode(value)?;
        self.sink.send(item).await
    }

    /// Sends a value if there is credit; it leaves as an item of [`ResponseSink::try_send`] does.
    ///
    /// # Errors
    /// [`TrySendValueError::Full`] without credit: the value was not sent, and may be sent again
    /// later. [`TrySendValueError::Invalid`] if the value cannot be encoded: the stream goes on.
    /// [`TrySendValueError::Closed`] when the stream is over.
    pub fn try_send(&mut self, value: &T) -> Result<(), TrySendValueError> {
        let item = self.encode(value).map_err(TrySendValueError::Invalid)?;
        self.sink.try_send(item).map_err(|error| match error {
            TrySendError::Full(_) => TrySendValueError::Full,
            TrySendError::Closed(error) => TrySendValueError::Closed(error),
        })
    }

    fn encode(&mut self, value: &T) -> Result<Bytes, Error> {
        self.encoder
            .encode(value)
            .map_err(|error| payload_error("a response item", &error).with_executed(Executed::Yes))
    }
}

impl<T> ValueSink<T> {
    /// Ready when one more value would be taken.
    ///
    /// # Errors
    /// As [`ResponseSink::send`].
    pub fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.sink.poll_ready(cx)
    }

    /// The request's context: a stop, a kill, the deadline.
    pub fn context(&self) -> &Context {
        self.sink.context()
    }

    /// How many values were sent.
    pub fn sent(&self) -> u64 {
        self.sink.sent()
    }

    /// Ends the stream: every value was sent.
    pub fn complete(self) {
        self.sink.complete();
    }

    /// Ends the stream with the handler's error.
    pub fn fail(self, error: Error) {
        self.sink.fail(error);
    }

    /// The wrapped sink of bytes, for its other methods.
    pub fn sink(&mut self) -> &mut ResponseSink {
        &mut self.sink
    }
}

impl<T> std::fmt::Debug for ValueSink<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ValueSink").field(&self.sink).finish()
    }
}

impl<Req, Resp, F> std::fmt::Debug for TypedPush<Req, Resp, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TypedPush")
    }
}
