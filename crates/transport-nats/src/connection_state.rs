//! The state that the client, the endpoints and the driver of one connection share.

use std::sync::{Arc, atomic::Ordering};

use async_nats::{Client, HeaderMap, Message, PublishErrorKind, StatusCode, connection::State};
use bytes::Bytes;
use sinew_plane::{Code, Error, Executed, budget::Account};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CheckedNatsConfig, PayloadTooLarge,
    metrics::Counters,
    pending::{Answer, Carrier, Expected, Pending, lost},
};

/// One client of the library. It reconnects by itself; when it is beyond that, or its server goes
/// away on purpose, another session takes its place.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) client: Client,
    /// Replies come to `INBOX.TOKEN`; the last part is random, so that others cannot guess it.
    pub(crate) inbox: Arc<str>,
    /// Counts the sessions of a connection.
    pub(crate) epoch: u64,
}

impl Session {
    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// How often it has connected.
    pub(crate) fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }
}

/// See the module.
pub(crate) struct ConnectionState {
    pub(crate) config: CheckedNatsConfig,
    /// The session to use; `None` while there is none.
    pub(crate) sessions: watch::Sender<Option<Session>>,
    pub(crate) pending: Pending,
    /// What came over it and is held is charged here.
    pub(crate) account: Option<Arc<Account>>,
    pub(crate) counters: Counters,
    /// Subjects that the server does not let us subscribe to, as it says so.
    pub(crate) denied_subscriptions: broadcast::Sender<Arc<str>>,
    pub(crate) stop: StopTokens,
    /// The tasks of the endpoints.
    pub(crate) endpoints: TaskTracker,
    /// The driver, and what it leaves behind for a while.
    pub(crate) drivers: TaskTracker,
}

/// The phases of an end, each of which implies that the ones before have begun.
pub(crate) struct StopTokens {
    /// No new requests; endpoints drain.
    pub(crate) closing: CancellationToken,
    /// Endpoints that still drain are cut.
    pub(crate) cut: CancellationToken,
    /// The connection is closed.
    pub(crate) done: CancellationToken,
}

impl ConnectionState {
    /// The session, if it is connected.
    ///
    /// Nothing is sent while it is not: the library would keep it and send it after an outage,
    /// when its caller is long gone.
    pub(crate) fn connected(&self) -> Result<Session, Error> {
        let fault = |message| Err(Error::new(Code::ConnectFailed, message));
        if self.stop.closing.is_cancelled() {
            return fault("the connection to NATS is closed".to_owned());
        }
        let session = self.sessions.borrow().clone();
        match session.filter(Session::is_connected) {
            Some(session) => Ok(session),
            None => fault(format!(
                "not connected to NATS at {}, trying again in the background; nothing was sent",
                self.config.servers_text()
            )),
        }
    }

    /// Sends a request and waits for what comes back.
    pub(crate) async fn request(
        &self,
        subject: String,
        headers: (HeaderMap, usize),
        payload: Bytes,
    ) -> Result<Message, Error> {
        let session = self.connected()?;
        let size = headers.1 + payload.len();
        // Asked for each time: another server, or this one restarted, may have another limit.
        let limit = session.client.max_payload();
        if size > limit {
            return Err(too_large(PayloadTooLarge { limit, size }));
        }
        let (mut expected, reply) = self.expect(&session, &subject)?;
        let deadline = Instant::now() + self.config.request_timeout;
        let client = &session.client;
        let sent =
            client.publish_with_reply_and_headers(subject.clone(), reply, headers.0, payload);
        match timeout_at(deadline, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(not_sent(&error, limit, size)),
            Err(_) => {
                let message = "the connection to the NATS server takes nothing more; nothing was \
                               sent";
                return Err(Error::new(Code::Exhausted, message));
            }
        }
        // An answer that came while this process was stopped is read before the worker is judged.
        let left = deadline.saturating_duration_since(Instant::now());
        match sinew_plane::timeout(left, expected.answer()).await {
            Ok(Answer::Reply(message)) => check_status(message, &subject),
            Ok(Answer::Lost) => Err(lost()),
            Ok(Answer::NoRoom) => Err(self.no_room()),
            Ok(Answer::Denied { is_this }) => {
                let message = format!("the NATS server does not let us send to {subject}");
                let executed = if is_this { Executed::No } else { Executed::Maybe };
                Err(Error::new(Code::ConnectFailed, message).with_executed(executed))
            }
            Err(_) => {
                let waited = self.config.request_timeout;
                let message = format!("{subject} has not acknowledged the request in {waited:?}");
                Err(Error::new(Code::ConnectionLost, message).with_executed(Executed::Maybe))
            }
        }
    }

    /// Waits until the server has seen everything that was sent before, by sending ourselves a
    /// message: it handles what one connection sends in order.
    pub(crate) async fn sync(&self, session: &Session) -> Result<(), Error> {
        let (mut expected, reply) = self.expect(session, "")?;
        let deadline = Instant::now() + self.config.request_timeout;
        let not_seen = |message: &str| Err(Error::new(Code::ConnectFailed, message));
        match timeout_at(deadline, session.client.publish(reply, Bytes::new())).await {
            Ok(Ok(())) => {}
            _ => return not_seen("the connection to the NATS server takes nothing more"),
        }
        match timeout_at(deadline, expected.answer()).await {
            // A denial is an answer too, and in order.
            Ok(Answer::Reply(_) | Answer::NoRoom | Answer::Denied { .. }) => Ok(()),
            Ok(Answer::Lost) => not_seen("the connection to the NATS server broke"),
            Err(_) => not_seen("the NATS server does not answer"),
        }
    }

    /// The error of a request that was answered, and whose answer found no room here.
    fn no_room(&self) -> Error {
        let overflow = self.account.as_ref().map(|account| account.budget().overflow());
        // Without an account there is room for everything.
        overflow.unwrap_or_else(lost).with_executed(Executed::Maybe)
    }

    /// Takes a place in the table. Of an empty `subject` it is the reply subject that counts.
    pub(crate) fn expect(
        &self,
        session: &Session,
        subject: &str,
    ) -> Result<(Expected<'_>, String), Error> {
        let carrier = Carrier { epoch: session.epoch, connects: session.connects() };
        let expected = self.pending.expect(carrier, subject)?;
        let reply = format!("{}.{}", session.inbox, expected.token());
        // Between the look at the connection and our place in the table it may have broken, and
        // those that were lost were told before we came.
        if session.connects() != carrier.connects || !session.is_connected() {
            let message = "the connection to the NATS server broke; nothing was sent";
            return Err(Error::new(Code::ConnectFailed, message));
        }
        Ok((expected, reply))
    }
}

fn too_large(cause: PayloadTooLarge) -> Error {
    let PayloadTooLarge { limit, size } = cause;
    let message = format!(
        "the request is {size} bytes with headers, and the NATS server takes {limit} (its \
         max_payload); nothing was sent"
    );
    Error::new(Code::TooLarge, message).with_source(cause)
}

fn not_sent(error: &async_nats::PublishError, limit: usize, size: usize) -> Error {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => too_large(PayloadTooLarge { limit, size }),
        PublishErrorKind::InvalidSubject => {
            Error::new(Code::InvalidPayload, "the NATS client refuses the subject")
        }
        PublishErrorKind::Send => {
            Error::new(Code::ConnectFailed, "the NATS client has ended; nothing was sent")
        }
    }
}

/// Tells replies of a worker from those of the server.
fn check_status(message: Message, subject: &str) -> Result<Message, Error> {
    match message.status {
        None => Ok(message),
        Some(StatusCode::NO_RESPONDERS) => {
            // As sure as a refusal of the worker itself: the server gave the request to nobody.
            let text = format!("nobody serves {subject} on NATS (no responders)");
            Err(Error::new(Code::UnknownEndpoint, text))
        }
        Some(status) => {
            let text = format!("{subject} was answered with status {status}, no acknowledgement");
            Err(Error::new(Code::Violation, text).with_executed(Executed::Maybe))
        }
    }
}
