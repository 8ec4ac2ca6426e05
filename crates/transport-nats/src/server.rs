//! The serving side.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sinew_plane::{Code, EndpointName, Error, InstanceId, RequestPlaneHandler, Shutdown};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{NatsConnection, endpoint::Serving, metrics::EndpointMetrics, subject::ServedNames};

/// Serves instances of endpoints, each as a NATS micro service with a subject of its own, and on
/// request the subject that all instances of an endpoint share.
///
/// There is no address to bind, so this is not a `RequestPlaneServer`.
#[derive(Clone)]
pub struct NatsServer {
    connection: NatsConnection,
    handler: Arc<dyn RequestPlaneHandler>,
    subjects: Arc<Mutex<HashSet<String>>>,
}

/// One served subject. Dropping it ends the service at once; call [`drain`](Self::drain) first to
/// lose no request.
pub struct NatsEndpoint {
    subject: String,
    draining: CancellationToken,
    cut: CancellationToken,
    task: Option<JoinHandle<()>>,
    _connection: NatsConnection,
}

impl NatsServer {
    /// Makes a server that passes its requests to `handler`.
    pub fn new(connection: NatsConnection, handler: Arc<dyn RequestPlaneHandler>) -> Self {
        Self { connection, handler, subjects: Arc::default() }
    }

    /// Serves instance `id` of `endpoint` until the result is dropped, also after the connection
    /// was lost and made again. When the call returns, the NATS server has the subscription.
    ///
    /// If the future is dropped, nothing is served.
    ///
    /// # Errors
    /// The name is one that stock Dynamo peers spell in two ways (the error says what to write
    /// instead), the subject is served by this process already, the server does not permit the
    /// subscription, or there is no connection. Nothing is served then.
    pub async fn serve(
        &self,
        endpoint: &EndpointName,
        id: InstanceId,
    ) -> Result<NatsEndpoint, Error> {
        self.serve_as(ServedNames::new(endpoint, id)?, endpoint).await
    }

    /// Serves `endpoint` on the subject that all its workers [share](crate::shared_subject), in one
    /// queue group: NATS delivers each request to one of them, at random, so callers need no
    /// instance.
    ///
    /// Call it once in a process, in addition to [`serve`](Self::serve) for each instance. The
    /// handler gets the shared subject as the target, and picks the instance. When this worker
    /// drains, the others get all requests at once. A request that the handler refuses is not
    /// delivered to another worker.
    ///
    /// If the future is dropped, nothing is served.
    ///
    /// # Errors
    /// As [`serve`](Self::serve), and for a name that could be an instance of another endpoint,
    /// such as `generate-1f`.
    pub async fn serve_shared(&self, endpoint: &EndpointName) -> Result<NatsEndpoint, Error> {
        self.serve_as(ServedNames::shared(endpoint)?, endpoint).await
    }

    async fn serve_as(
        &self,
        names: ServedNames,
        endpoint: &EndpointName,
    ) -> Result<NatsEndpoint, Error> {
        let state = Arc::clone(self.connection.state());
        let session = state.connected()?;
        let claim = self.claim(&names.subject)?;
        let draining = state.stop.closing.child_token();
        let cut = state.stop.cut.child_token();
        let subject = names.subject.clone();
        let handler = Arc::clone(&self.handler);
        let metrics = EndpointMetrics::new(endpoint);
        let serving = Serving::new(Arc::clone(&state), names, handler, draining.clone(), metrics);
        let registration = serving.register(&session).await?;
        let run = Box::pin(cut.clone().run_until_cancelled_owned(serving.run(registration)));
        let task = state.endpoints.spawn(async move {
            run.await;
            drop(claim);
        });
        let _connection = self.connection.clone();
        Ok(NatsEndpoint { subject, draining, cut, task: Some(task), _connection })
    }

    fn claim(&self, subject: &str) -> Result<Claim, Error> {
        // Two of one subject would share its requests at random.
        if !self.subjects.lock().insert(subject.to_owned()) {
            let message = format!("the NATS subject {subject} is served here already");
            return Err(Error::new(Code::Exhausted, message));
        }
        Ok(Claim { subject: subject.to_owned(), subjects: Arc::clone(&self.subjects) })
    }
}

/// A subject that is taken until this is dropped.
struct Claim {
    subject: String,
    subjects: Arc<Mutex<HashSet<String>>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.subjects.lock().remove(&self.subject);
    }
}

impl NatsEndpoint {
    /// The subject of the requests.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Refuses new requests with `Server unavailable`, passes received ones on, and unsubscribes
    /// once no more arrive. Cuts what is left after `grace`, and returns how much that was.
    ///
    /// A shared subject refuses no request: it is unsubscribed, and requests that were sent before
    /// are passed on to the handler, which decides.
    pub async fn drain(mut self, grace: Duration) -> Shutdown {
        let deadline = Instant::now() + grace;
        self.draining.cancel();
        let Some(mut task) = self.task.take() else { return Shutdown::default() };
        if timeout_at(deadline, &mut task).await.is_ok() {
            return Shutdown::default();
        }
        self.cut.cancel();
        let _ = task.await;
        Shutdown { cut_streams: 0, cut_tasks: 1 }
    }

    /// Unsubscribes at once. Requests that were received and not passed on are lost.
    pub async fn stop(mut self) {
        self.cut.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for NatsEndpoint {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

impl std::fmt::Debug for NatsEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsEndpoint").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for NatsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsServer").field("connection", &self.connection).finish_non_exhaustive()
    }
}
