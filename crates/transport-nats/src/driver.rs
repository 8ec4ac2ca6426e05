//! The driver of a connection: makes its sessions, and handles what they receive.

use std::sync::Arc;

use async_nats::{ConnectErrorKind, Event, Message, ServerError, Subscriber};
use futures_util::StreamExt;
use sinew_plane::{Backoff, Code, Error, Retries};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    CheckedNatsConfig,
    connection_state::{ConnectionState, Session},
    options::options,
};

/// Events of a session that wait to be looked at. Some come with each break and each message too
/// many; none carries something that another of its kind would not.
const EVENTS: usize = 128;

/// A session, and what comes over it for the driver.
pub(crate) struct SessionEvents {
    pub(crate) session: Session,
    events: mpsc::Receiver<Event>,
    replies: Subscriber,
}

/// Why no session was made.
pub(crate) struct NoSession {
    error: Error,
    /// Trying again without a change on either side is no use.
    is_final: bool,
}

/// Makes a session within the limit for the start.
pub(crate) async fn first_session(config: &CheckedNatsConfig) -> Result<SessionEvents, Error> {
    let deadline = Instant::now() + config.startup_timeout;
    let mut last = None;
    let mut retries = retries(config);
    for attempt in 1.. {
        match timeout_at(deadline, establish(config, 0)).await {
            Ok(Ok(session_events)) => return Ok(session_events),
            Ok(Err(failure)) if failure.is_final => return Err(failure.error),
            Ok(Err(failure)) => {
                tracing::debug!(error = %failure.error, attempt, "no connection to NATS yet");
                last = Some(failure.error);
            }
            Err(_) => break,
        }
        if timeout_at(deadline, sleep(retries.pause())).await.is_err() {
            break;
        }
    }
    let waited = config.startup_timeout;
    let reason = last.as_ref().map_or("no answer", Error::message);
    let message = format!("no connection to NATS within {waited:?} (startup_timeout): {reason}");
    Err(Error::new(Code::ConnectTimedOut, message))
}

/// Attends to a connection until it is done.
pub(crate) async fn drive(state: Arc<ConnectionState>, mut session_events: SessionEvents) {
    loop {
        let next = match attend(&state, &mut session_events).await {
            EndReason::Done => break,
            EndReason::Died => {
                tracing::error!("the NATS client has ended; making another");
                state.sessions.send_replace(None);
                state.pending.lose(session_events.session.epoch, u64::MAX);
                state.stop.done.run_until_cancelled(another(&state, &session_events.session)).await
            }
            EndReason::LameDuck => {
                tracing::info!("the NATS server is going away; looking for another");
                replacement(&state, &mut session_events).await
            }
        };
        let Some(next) = next else { continue };
        let old = std::mem::replace(&mut session_events, next);
        state.sessions.send_replace(Some(session_events.session.clone()));
        state.counters.replaced.count();
        state.drivers.spawn(retire(Arc::clone(&state), old));
    }
    state.sessions.send_replace(None);
    state.pending.lose(session_events.session.epoch, u64::MAX);
}

/// Makes a session that takes the place of one whose server goes away, while that one goes on.
/// `None` if it got over it by itself, or is beyond help: then attending says so.
async fn replacement(
    state: &Arc<ConnectionState>,
    session_events: &mut SessionEvents,
) -> Option<SessionEvents> {
    let session = session_events.session.clone();
    let connects = session.connects();
    let mut another = std::pin::pin!(another(state, &session));
    loop {
        tokio::select! {
            biased;
            () = state.stop.done.cancelled() => return None,
            next = &mut another => return Some(next),
            event = session_events.events.recv() => {
                let left = on_event(state, &session, event);
                if session.connects() != connects || matches!(left, Some(EndReason::Died)) {
                    return None;
                }
            }
            reply = session_events.replies.next() => {
                if on_reply(state, &session, reply).is_some() {
                    return None;
                }
            }
        }
    }
}

/// Attends to a session that was replaced until everything sent over it has an answer or none
/// that counts; endpoints leave it meanwhile.
async fn retire(state: Arc<ConnectionState>, mut session_events: SessionEvents) {
    let until_it_ends =
        async { while let EndReason::LameDuck = attend(&state, &mut session_events).await {} };
    let _ = timeout(state.config.request_timeout, until_it_ends).await;
    state.pending.lose(session_events.session.epoch, u64::MAX);
}

/// Makes a session, however long it takes.
async fn another(state: &ConnectionState, last: &Session) -> SessionEvents {
    let mut retries = retries(&state.config);
    for attempt in 1.. {
        match establish(&state.config, last.epoch + 1).await {
            Ok(session_events) => return session_events,
            Err(failure) => {
                tracing::warn!(error = %failure.error, attempt, "no connection to NATS")
            }
        }
        sleep(retries.pause()).await;
    }
    unreachable!("attempts do not run out")
}

fn retries(config: &CheckedNatsConfig) -> Retries {
    Retries::new(Backoff::exponential(config.backoff_base, config.backoff_max))
}

/// Tries each server once.
async fn establish(config: &CheckedNatsConfig, epoch: u64) -> Result<SessionEvents, NoSession> {
    let (sender, events) = mpsc::channel(EVENTS);
    let options = options(config, sender).await.map_err(|cause| NoSession {
        error: Error::new(Code::ConnectFailed, format!("cannot use the credentials: {cause}")),
        is_final: true,
    })?;
    let servers: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
    let client = options.connect(servers).await.map_err(|cause| {
        use ConnectErrorKind::{Authentication, AuthorizationViolation, ServerParse};
        let is_final =
            matches!(cause.kind(), Authentication | AuthorizationViolation | ServerParse);
        let message = format!("cannot connect to NATS at {}: {cause}", config.servers_text());
        NoSession { error: Error::new(Code::ConnectFailed, message), is_final }
    })?;
    let inbox = client.new_inbox();
    let replies = client.subscribe(format!("{inbox}.*")).await.map_err(|cause| {
        let message = format!("cannot subscribe to replies: {cause}");
        NoSession { error: Error::new(Code::ConnectFailed, message), is_final: false }
    })?;
    Ok(SessionEvents { session: Session { client, inbox: inbox.into(), epoch }, events, replies })
}

/// Why the driver turns away from a session.
enum EndReason {
    /// The connection is done.
    Done,
    /// The client has ended by itself. A peer can make it: a bare CR in a header value is enough.
    Died,
    /// Its server goes away soon.
    LameDuck,
}

async fn attend(state: &ConnectionState, session_events: &mut SessionEvents) -> EndReason {
    loop {
        let left = tokio::select! {
            biased;
            () = state.stop.done.cancelled() => Some(EndReason::Done),
            event = session_events.events.recv() => on_event(state, &session_events.session, event),
            reply = session_events.replies.next() => on_reply(state, &session_events.session, reply),
        };
        if let Some(left) = left {
            return left;
        }
    }
}

fn on_event(state: &ConnectionState, session: &Session, event: Option<Event>) -> Option<EndReason> {
    match event {
        None | Some(Event::Closed) => return Some(EndReason::Died),
        Some(Event::LameDuckMode) => return Some(EndReason::LameDuck),
        Some(Event::Disconnected) => {
            // One that was replaced may break unnoticed.
            if state.sessions.borrow().as_ref().is_some_and(|used| used.epoch == session.epoch) {
                tracing::warn!("the connection to NATS broke; connecting again");
                state.counters.disconnects.count();
            }
            lose_what_broke(state, session);
        }
        Some(Event::Connected) => {
            state.counters.note_reconnect();
            lose_what_broke(state, session);
        }
        Some(Event::SlowConsumer(_)) => {
            tracing::warn!("NATS messages came faster than they were read; some are lost");
            state.counters.slow_consumer.count();
        }
        Some(Event::ServerError(ServerError::Other(text))) => {
            // Server texts name subjects and no secrets.
            tracing::warn!(error = %text, "the NATS server reports an error");
            if let Some(subject) = denied_subject(&text, "Publish") {
                state.pending.deny(session.epoch, subject);
            }
            if let Some(subject) = denied_subject(&text, "Subscription") {
                // Fails while nobody registers, and then nobody asks.
                let _ = state.denied_subscriptions.send(subject.into());
            }
        }
        Some(Event::ServerError(error)) => {
            tracing::warn!(%error, "the NATS server reports an error");
        }
        Some(Event::ClientError(error)) => tracing::debug!(%error, "the NATS client"),
        Some(Event::Draining) => {}
    }
    None
}

/// Events come late: what was sent over a newer connection meanwhile is not lost.
fn lose_what_broke(state: &ConnectionState, session: &Session) {
    let connects = session.connects();
    let current = if session.is_connected() { connects } else { connects + 1 };
    state.pending.lose(session.epoch, current);
}

fn on_reply(
    state: &ConnectionState,
    session: &Session,
    message: Option<Message>,
) -> Option<EndReason> {
    let Some(message) = message else { return Some(EndReason::Died) };
    let inbox = &*session.inbox;
    let token = message.subject.strip_prefix(inbox).and_then(|rest| rest.strip_prefix('.'));
    let token = token.unwrap_or_default().to_owned();
    if !state.pending.reply(&token, message, state.account.as_ref()) {
        state.counters.late_replies.count();
    }
    None
}

/// The subject of what we may not do, from the server's own words.
fn denied_subject<'a>(text: &'a str, act: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once("Permissions Violation for ")?;
    let (subject, _) = rest.strip_prefix(act)?.strip_prefix(" to \"")?.split_once('"')?;
    Some(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_what_is_denied() {
        let publish = "Permissions Violation for Publish to \"a.b\"";
        assert_eq!(denied_subject(publish, "Publish"), Some("a.b"));
        assert_eq!(denied_subject(publish, "Subscription"), None);
        let subscribe = "Permissions Violation for Subscription to \"a.b\" using queue \"q\"";
        assert_eq!(denied_subject(subscribe, "Subscription"), Some("a.b"));
        assert_eq!(denied_subject(subscribe, "Publish"), None);
        assert_eq!(denied_subject("Authorization Violation", "Publish"), None);
    }
}
