//! A request that is a stream, for as long as its response is under way.

use bytes::Bytes;
use sinew_plane::{BoxStream, Context, Error};
use sinew_transport_tcp::{RequestRegistration, TcpStreamServer};

/// The items of a request, which a worker fetches. Dropping it ends them: who has come for them
/// is told that no more will follow, and that these were not all.
pub(super) struct Input {
    registration: RequestRegistration,
    /// Follows the request's and ends earlier: the next item may never come, and the request's
    /// context is not ours to cancel when its response is through.
    context: Context,
}

impl Input {
    pub(super) fn register(
        request: &Context,
        items: BoxStream<'static, Bytes>,
        streams: &TcpStreamServer,
    ) -> Result<Self, Error> {
        // Under the request's id, by which the worker knows it.
        let context = Context::builder().id(request.id()).build();
        request.link(&context);
        let registration = streams.register_request_stream(&context, items)?;
        Ok(Self { registration, context })
    }

    pub(super) fn connection_info(&self) -> &str {
        self.registration.connection_info()
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.context.kill();
    }
}
