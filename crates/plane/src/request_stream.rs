//! Request streams: the worker fetches the items of a request from the caller, on a separate plane.

use std::{
    fmt,
    pin::Pin,
    task::{self, Poll},
};

use bytes::Bytes;
use futures_core::Stream;

use crate::{BoxFuture, BoxStream, Context, Decision, Error, Origin};

/// The caller's side: accepts workers that fetch the items of a request.
pub trait RequestStreamServer: Send + Sync {
    /// Registers that a worker will fetch the items of `context`'s request. It takes them from
    /// `items` as fast as the worker reads, and passes a stop or kill of the context to the worker.
    ///
    /// # Errors
    /// The server is closed or has reached its limit of streams, or the request has a request
    /// stream already.
    fn register_request_stream(
        &self,
        context: &Context,
        items: BoxStream<'static, Bytes>,
    ) -> Result<RequestRegistration, Error>;
}

/// The worker's side: fetches the items of requests from their callers.
pub trait RequestStreamClient: Send + Sync {
    /// Fetches the items of a request from the caller that `connection_info` names, an opaque text
    /// made by the caller's [`RequestStreamServer`]. `origin` is where the request came from.
    /// Dropping the future fetches nothing.
    ///
    /// # Errors
    /// As [`ResponsePlaneClient::connect`](crate::ResponsePlaneClient::connect).
    fn connect_request_stream<'a>(
        &'a self,
        connection_info: &'a str,
        origin: Origin,
        context: Context,
    ) -> BoxFuture<'a, Result<RequestStream, Error>>;

    /// Checks whether items may be fetched from `connection_info`, as
    /// [`ResponsePlaneClient::check`](crate::ResponsePlaneClient::check) does for responses.
    fn check_request_stream(&self, _connection_info: &str, _origin: Origin) -> Decision {
        Decision::Now(Ok(()))
    }
}

/// The stream of the items of a request, as the caller sends them.
///
/// It reads only when it is polled, so a worker that takes no items blocks the caller. It ends with
/// `None` when the caller has sent all items, and otherwise with one error, after which the
/// request's context is stopped or killed too. Dropping it tells the caller that no more items are
/// needed.
pub struct RequestStream {
    items: BoxStream<'static, Result<Bytes, Error>>,
    context: Context,
}

impl RequestStream {
    /// Makes the stream of `context`'s request. Its maker has to keep the contract above.
    pub fn new(
        items: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
        context: Context,
    ) -> Self {
        Self { items: Box::pin(items), context }
    }

    /// The request's context.
    pub const fn context(&self) -> &Context {
        &self.context
    }
}

impl Stream for RequestStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.as_mut().poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl fmt::Debug for RequestStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestStream").field("context", &self.context).finish_non_exhaustive()
    }
}

/// A request stream that a worker is expected to fetch. Dropping it ends the expectation, and cuts
/// a stream that is being fetched, so keep it as long as the response.
#[must_use = "dropping the registration withdraws it"]
pub struct RequestRegistration {
    connection_info: String,
    _expectation: Box<dyn Send + Sync>,
}

impl RequestRegistration {
    /// Makes a registration. Dropping `expectation` ends it.
    pub fn new(connection_info: String, expectation: impl Send + Sync + 'static) -> Self {
        Self { connection_info, _expectation: Box::new(expectation) }
    }

    /// The text that the request carries to the worker.
    pub fn connection_info(&self) -> &str {
        &self.connection_info
    }
}

impl fmt::Debug for RequestRegistration {
    /// Formats the registration without the connection info, which holds the worker's credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestRegistration").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::{StreamExt, stream};

    use super::*;

    #[test]
    fn dropping_a_registration_withdraws_it_and_no_log_shows_its_info() {
        let expectation = Arc::new(());
        let held = Arc::clone(&expectation);
        let registration = RequestRegistration::new("secret".to_owned(), held);
        assert_eq!(registration.connection_info(), "secret");
        assert!(!format!("{registration:?}").contains("secret"));
        assert_eq!(Arc::strong_count(&expectation), 2);
        drop(registration);
        assert_eq!(Arc::strong_count(&expectation), 1);
    }

    #[tokio::test]
    async fn a_request_stream_yields_its_items_and_their_end() {
        let context = Context::new();
        let items = stream::iter([Ok(Bytes::from("one")), Err(Error::handler("lost"))]);
        let mut read = RequestStream::new(items, context.clone());
        assert_eq!(read.size_hint(), (2, Some(2)));
        assert_eq!(read.next().await.unwrap().unwrap(), "one");
        assert!(read.next().await.unwrap().is_err());
        assert!(read.next().await.is_none());
        read.context().kill();
        assert!(context.is_killed());
    }
}
