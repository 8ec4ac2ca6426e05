//! A subject that is registered with NATS, and its requests.

use std::sync::Arc;

use async_nats::{
    Client, Message, Subscriber,
    service::{Request, Service, ServiceExt, endpoint::Endpoint},
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use sinew_plane::{Code, Error, budget::Account};
use tokio::sync::broadcast;

use crate::{
    charge,
    connection_state::{ConnectionState, Session},
    subject::ServedNames,
};

/// The queue group of stock Dynamo workers, and the client library's own default.
const QUEUE_GROUP: &str = "q";

/// A registration with one session. Dropping it takes it back.
pub(crate) struct ActiveRegistration {
    session: Session,
    requests: Requests,
}

/// Where requests come from.
enum Requests {
    /// An instance is a micro service, as stock callers and tools expect.
    Instance(Box<Instance>),
    /// What all workers share is a bare subscription: it can be given back while requests come
    /// without losing one, and a micro service of the library's cannot.
    Shared(Subscriber),
}

struct Instance {
    endpoint: Endpoint,
    _service: Started,
}

/// A micro service that has started. The library does not stop it when it is dropped.
struct Started(Option<Service>);

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(service) = self.0.take() {
            // Aborts the library's task for the service; nothing in it waits.
            let _ = service.stop().now_or_never();
        }
    }
}

/// One request.
pub(crate) enum Received {
    /// To an instance.
    Instance(Request),
    /// To whoever NATS chose.
    Shared(Message, Client),
}

impl Received {
    pub(crate) fn message(&self) -> &Message {
        match self {
            Self::Instance(request) => &request.message,
            Self::Shared(message, _) => message,
        }
    }

    /// Charges it to the memory budget, for as long as somebody holds its payload.
    ///
    /// # Errors
    /// No room: it is to be refused. Its payload is gone then.
    pub(crate) fn charge(&mut self, account: Option<&Arc<Account>>) -> Result<(), Error> {
        charge::request(account, self.message_mut())
    }

    /// Its payload, once.
    pub(crate) fn take_payload(&mut self) -> Bytes {
        std::mem::take(&mut self.message_mut().payload)
    }

    fn message_mut(&mut self) -> &mut Message {
        match self {
            Self::Instance(request) => &mut request.message,
            Self::Shared(message, _) => message,
        }
    }

    /// Sends the acknowledgement. Waits while the connection takes nothing.
    pub(crate) async fn respond(&self, answer: Bytes) -> Result<(), async_nats::PublishError> {
        match (self, &self.message().reply) {
            (Self::Instance(request), _) => request.respond(Ok(answer)).await,
            (Self::Shared(_, client), Some(reply)) => client.publish(reply.clone(), answer).await,
            (Self::Shared(..), None) => Ok(()),
        }
    }
}

impl ActiveRegistration {
    /// Registers with a session, and waits until the server knows.
    pub(crate) async fn register(
        state: &ConnectionState,
        names: &ServedNames,
        session: &Session,
    ) -> Result<Self, Error> {
        let mut denied = state.denied_subscriptions.subscribe();
        let requests = Requests::register(names, session).await.map_err(|cause| {
            let message = format!("cannot serve {} over NATS: {cause}", names.subject);
            Error::new(Code::ConnectFailed, message)
        })?;
        // What the server denies it says before it answers, but the library hands that on by way
        // of a task of its own: by a second answer that has run.
        for _ in 0..2 {
            state.sync(session).await?;
        }
        if is_among(&names.subject, &mut denied) {
            let subject = &names.subject;
            let message = format!(
                "the NATS server does not let us serve {subject}: allow this user to subscribe \
                 to it"
            );
            return Err(Error::new(Code::ConnectFailed, message));
        }
        Ok(Self { session: session.clone(), requests })
    }

    /// Of the sessions of a connection, the one that this is registered with.
    pub(crate) fn epoch(&self) -> u64 {
        self.session.epoch
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// The next request; `None` when no more come. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Received> {
        match &mut self.requests {
            Requests::Instance(it) => it.endpoint.next().await.map(Received::Instance),
            Requests::Shared(messages) => {
                let message = messages.next().await?;
                Some(Received::Shared(message, self.session.client.clone()))
            }
        }
    }

    /// Asks the server to send nothing more, and goes on listening for what it has sent. False if
    /// that cannot be done with this kind of registration.
    pub(crate) async fn unregister(&mut self) -> bool {
        let Requests::Shared(messages) = &mut self.requests else { return false };
        // "Stop after so many more" keeps the library listening. The server reads this number as
        // none at all, as it does every one that does not fit an i64, and stops at once; one
        // that took it at its word would go on sending, which whoever leaves has to expect.
        messages.unsubscribe_after(u64::MAX).await.is_ok()
    }

    /// Stops listening. What was received can still be read.
    pub(crate) async fn stop(&mut self) {
        match &mut self.requests {
            Requests::Instance(it) => drop(it.endpoint.stop().await),
            Requests::Shared(messages) => drop(messages.unsubscribe().await),
        }
    }
}

/// Looks through what was said so far. A burst of others may push ours out; the driver has it in
/// the log then.
fn is_among(subject: &str, denied: &mut broadcast::Receiver<Arc<str>>) -> bool {
    loop {
        match denied.try_recv() {
            Ok(other) if *other == *subject => return true,
            Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
            Err(_) => return false,
        }
    }
}

impl Requests {
    async fn register(names: &ServedNames, session: &Session) -> Result<Self, async_nats::Error> {
        let client = &session.client;
        if names.is_shared {
            let group = QUEUE_GROUP.to_owned();
            return Ok(Self::Shared(client.queue_subscribe(names.subject.clone(), group).await?));
        }
        // One service for each endpoint: the library's service keeps listing an endpoint that
        // has ended for as long as it lives itself.
        let builder = client.service_builder().queue_group(QUEUE_GROUP);
        let service = builder.start(&names.service, env!("CARGO_PKG_VERSION")).await?;
        let group = service.group(&names.service);
        let _service = Started(Some(service));
        let endpoint = group.endpoint_builder().name(&names.endpoint);
        let endpoint = endpoint.add(&names.endpoint).await?;
        Ok(Self::Instance(Box::new(Instance { endpoint, _service })))
    }
}
