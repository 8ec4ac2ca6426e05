//! The calling side.

use bytes::Bytes;
use sinew_dynamo_wire::acknowledgement::{self, MAX_ACK_BYTES};
use sinew_plane::{BoxFuture, Code, Error, Executed, Headers, RequestPlaneClient};

use crate::{NatsConnection, headers, subject};

/// With this header a micro service reports an error; its body is then usually empty, which must
/// not pass for an acknowledgement.
const SERVICE_ERROR: &str = "Nats-Service-Error";

/// The calling side: sends requests to the subjects of instances.
///
/// | what happened | error | may it be sent again |
/// |---|---|---|
/// | no connection | `ConnectFailed`, at once | yes |
/// | no worker serves the subject | `UnknownEndpoint`, at once | yes |
/// | over the server's `max_payload` | `TooLarge`, with [`PayloadTooLarge`](crate::PayloadTooLarge) as source | no |
/// | the worker refuses | `Overloaded`, `Draining`, `UnknownEndpoint` | yes |
/// | no acknowledgement in time, connection broke | `ConnectionLost` | only if idempotent |
/// | something else than an acknowledgement | `Violation` | only if idempotent |
#[derive(Debug, Clone)]
pub struct NatsRequestClient {
    connection: NatsConnection,
}

impl NatsRequestClient {
    /// Makes a client that sends over `connection`. Registers nothing with NATS.
    pub fn new(connection: NatsConnection) -> Self {
        Self { connection }
    }

    async fn exchange(&self, to: String, body: Bytes, headers: Headers) -> Result<Bytes, Error> {
        let state = self.connection.state();
        subject::check_target(&to, &state.config.inbox_prefix)?;
        let headers = headers::to_nats(&headers)?;
        let reply = state.request(to, headers, body).await?;
        let is_error = reply.headers.as_ref().is_some_and(|map| map.get(SERVICE_ERROR).is_some());
        if is_error || reply.payload.len() > MAX_ACK_BYTES {
            let message = "the request was answered with what is no acknowledgement: another \
                           service serves the subject";
            return Err(Error::new(Code::Violation, message).with_executed(Executed::Maybe));
        }
        acknowledgement::decode(&reply.payload)?;
        Ok(Bytes::new())
    }
}

impl RequestPlaneClient for NatsRequestClient {
    /// `address` is the subject, as in `ns1_backend.generate-5315a1fc98a8560e`.
    fn send_request(
        &self,
        address: String,
        payload: Bytes,
        headers: Headers,
    ) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(self.exchange(address, payload, headers))
    }
}
