//! One served instance: its registration, and the path of a request from NATS to the handler.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use sinew_dynamo_wire::acknowledgement;
use sinew_plane::{
    Code, Decision, Error, Origin, PeerFacts, PlaneRequest, RequestPlaneHandler, TransportId,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    connection_state::{ConnectionState, Session},
    headers,
    metrics::EndpointMetrics,
    registration::{ActiveRegistration, Received},
    subject::ServedNames,
};

/// The name of this transport.
pub const NATS: TransportId = TransportId::from_static("nats");

/// A leaving endpoint goes once no request has come for this long. The library stops to listen
/// before the server stops to send; what comes between is lost, so it must be nothing.
const QUIET: Duration = Duration::from_millis(50);

/// Everything about one subject that is served but its present registration.
pub(crate) struct Serving {
    state: Arc<ConnectionState>,
    names: ServedNames,
    handler: Arc<dyn RequestPlaneHandler>,
    draining: CancellationToken,
    metrics: EndpointMetrics,
}

/// Why an endpoint turns away from a registration.
enum EndReason {
    /// It is to drain.
    Draining,
    /// Another session is to be used from now on.
    Replaced(Session),
    /// The session has ended.
    Lost,
}

type Sessions = watch::Receiver<Option<Session>>;

impl Serving {
    pub(crate) fn new(
        state: Arc<ConnectionState>,
        names: ServedNames,
        handler: Arc<dyn RequestPlaneHandler>,
        draining: CancellationToken,
        metrics: EndpointMetrics,
    ) -> Self {
        Self { state, names, handler, draining, metrics }
    }

    /// Registers with a session, and waits until the server knows.
    pub(crate) async fn register(&self, session: &Session) -> Result<ActiveRegistration, Error> {
        ActiveRegistration::register(&self.state, &self.names, session).await
    }

    /// Serves over whichever session there is, until it drains.
    pub(crate) async fn run(self, mut registration: ActiveRegistration) {
        let mut sessions = self.state.sessions.subscribe();
        loop {
            registration = match self.serve(&mut registration, &mut sessions).await {
                EndReason::Draining => return self.leave(registration, true).await,
                EndReason::Lost => {
                    let epoch = registration.epoch();
                    drop(registration);
                    match self.register_again(epoch, &mut sessions).await {
                        Some(next) => next,
                        None => return,
                    }
                }
                EndReason::Replaced(session) => match self.register(&session).await {
                    Ok(next) => {
                        self.leave(registration, false).await;
                        next
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot move to another NATS server yet");
                        sleep(self.state.config.backoff_base).await;
                        registration
                    }
                },
            };
        }
    }

    /// Waits for a session after that of `epoch`, and registers with it. `None` if it is to drain.
    async fn register_again(
        &self,
        epoch: u64,
        sessions: &mut Sessions,
    ) -> Option<ActiveRegistration> {
        loop {
            let session = {
                let newer = |session: &Option<Session>| {
                    session.as_ref().is_some_and(|session| session.epoch > epoch)
                };
                let session = self.draining.run_until_cancelled(sessions.wait_for(newer)).await?;
                session.ok()?.clone()?
            };
            match self.register(&session).await {
                Ok(registration) => return Some(registration),
                Err(error) => tracing::warn!(%error, "trying again"),
            }
            // The session reconnects by itself; a broken one is replaced.
            let pause = sleep(self.state.config.backoff_max);
            self.draining.run_until_cancelled(pause).await?;
        }
    }

    /// Hands on what comes until something else is to be done.
    async fn serve(
        &self,
        registration: &mut ActiveRegistration,
        sessions: &mut Sessions,
    ) -> EndReason {
        let mut queue = VecDeque::new();
        loop {
            // What has come is taken in before the next one is handed on, so that those who do
            // not fit hear so now.
            let is_open = self.take_in(registration, &mut queue).await;
            self.metrics.queued(queue.len());
            if let Some(request) = queue.pop_front() {
                self.hand_on(request).await;
                if self.draining.is_cancelled() {
                    self.hand_on_all(&mut queue).await;
                    return EndReason::Draining;
                }
                continue;
            }
            if !is_open {
                return EndReason::Lost;
            }
            tokio::select! {
                biased;
                () = self.draining.cancelled() => return EndReason::Draining,
                replacement = replacement(sessions, registration.epoch()) => return EndReason::Replaced(replacement),
                request = registration.next() => match request {
                    Some(request) => self.enqueue(request, &mut queue).await,
                    None => return EndReason::Lost,
                },
            }
        }
    }

    /// Puts what has come into the queue, and refuses what does not fit. False when no more comes.
    async fn take_in(
        &self,
        registration: &mut ActiveRegistration,
        queue: &mut VecDeque<Received>,
    ) -> bool {
        while let Some(request) = registration.next().now_or_never() {
            let Some(request) = request else { return false };
            self.enqueue(request, queue).await;
        }
        true
    }

    async fn enqueue(&self, mut request: Received, queue: &mut VecDeque<Received>) {
        match self.admit(&mut request, queue.len()) {
            Ok(()) => queue.push_back(request),
            Err(refusal) => self.refuse(request, refusal).await,
        }
    }

    /// Whether there is room for one more beside `queued` others; what it holds is charged then.
    fn admit(&self, request: &mut Received, queued: usize) -> Result<(), Error> {
        let limit = self.state.config.queue_limit;
        if queued >= limit {
            let message = format!("{limit} requests wait for the worker already");
            return Err(Error::new(Code::Overloaded, message));
        }
        request.charge(self.state.account.as_ref())
    }

    /// Says that a request is not taken. The handler has not seen it.
    async fn refuse(&self, mut request: Received, refusal: Error) {
        // The answer may have to wait, and needs none of it.
        drop(request.take_payload());
        self.metrics.refused();
        self.answer(&request, &Err(refusal)).await;
    }

    async fn hand_on_all(&self, queue: &mut VecDeque<Received>) {
        while let Some(request) = queue.pop_front() {
            self.metrics.queued(queue.len());
            self.hand_on(request).await;
        }
    }

    async fn hand_on(&self, mut request: Received) {
        if !self.is_answerable(&request) {
            self.state.counters.dropped.count();
            return;
        }
        let peer =
            PeerFacts::from_origin(Origin::Broker { is_local: self.state.config.is_local() });
        // From here on it is the handler's, who may let go of it before there is an answer.
        let payload = request.take_payload();
        let accepted = AssertUnwindSafe(|| {
            self.handler.decide(PlaneRequest {
                target: &self.names.subject,
                headers: headers::from_nats(request.message().headers.as_ref()),
                payload,
                transport: &NATS,
                peer: &peer,
            })
        });
        match std::panic::catch_unwind(accepted) {
            Ok(Decision::Now(outcome)) => self.answer(&request, &outcome).await,
            // The requests of others do not wait for what one takes to decide.
            Ok(Decision::Later(outcome)) => {
                let state = Arc::clone(&self.state);
                self.state.endpoints.spawn(async move {
                    let outcome = state.stop.cut.run_until_cancelled(outcome).await;
                    let draining = || Err(Error::draining("the worker is going away"));
                    answer(&state, &request, &outcome.unwrap_or_else(draining)).await;
                });
            }
            // Whether something runs now nobody knows, and no answer says just that.
            Err(_) => tracing::error!(subject = self.names.subject, "a request handler panicked"),
        }
    }

    /// Replies go to inboxes and nowhere else, whatever a caller asks for.
    fn is_answerable(&self, request: &Received) -> bool {
        let prefix = self.state.config.inbox_prefix.as_str();
        let reply = request.message().reply.as_ref();
        let rest = reply.and_then(|reply| reply.strip_prefix(prefix));
        rest.is_some_and(|rest| rest.starts_with('.'))
    }

    async fn answer(&self, request: &Received, outcome: &Result<(), Error>) {
        if !self.is_answerable(request) {
            self.state.counters.dropped.count();
            return;
        }
        answer(&self.state, request, outcome).await;
    }

    /// Takes a registration back without losing a request.
    async fn leave(&self, mut registration: ActiveRegistration, refuse: bool) {
        if registration.unregister().await {
            // With the answer to this, all that was sent here has come: as much as before of
            // what the other workers take from now on, so none of it is turned away.
            let _ = self.state.sync(registration.session()).await;
            while let Some(Some(request)) = registration.next().now_or_never() {
                self.turn_away(request, false).await;
            }
        }
        // Goes on until none come, and only then stops to listen.
        while let Ok(Some(request)) = timeout(QUIET, registration.next()).await {
            self.turn_away(request, refuse).await;
        }
        registration.stop().await;
        while let Some(request) = registration.next().await {
            self.turn_away(request, refuse).await;
        }
        // The acknowledgements are on their way, and nobody is sent here any more.
        let session = self.state.sessions.borrow().clone();
        if let Some(session) = session.filter(|session| session.epoch == registration.epoch()) {
            let _ = self.state.sync(&session).await;
        }
    }

    /// Of a request to who is leaving: refused, or handed on as far as there is room.
    async fn turn_away(&self, mut request: Received, refuse: bool) {
        let admitted = if refuse {
            Err(Error::draining("the worker is going away"))
        } else {
            self.admit(&mut request, 0)
        };
        match admitted {
            Ok(()) => self.hand_on(request).await,
            Err(refusal) => self.refuse(request, refusal).await,
        }
    }
}

async fn answer(state: &ConnectionState, request: &Received, outcome: &Result<(), Error>) {
    let answer = request.respond(acknowledgement::encode(outcome));
    // Waits only while the connection takes nothing; after this long nobody listens for it.
    match timeout(state.config.request_timeout, answer).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an acknowledgement was not sent"),
        Err(_) => tracing::debug!("an acknowledgement could not be sent in time"),
    }
}

/// Ends when there is another session than that of `epoch`.
async fn replacement(sessions: &mut Sessions, epoch: u64) -> Session {
    loop {
        let session = sessions.borrow_and_update().clone();
        if let Some(session) = session.filter(|session| session.epoch != epoch) {
            return session;
        }
        if sessions.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
