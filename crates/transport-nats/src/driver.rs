//! Keeps a link connected: makes its sessions, and attends to what comes over them.

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
    link::{Link, Session},
    options::options,
};

/// Events of a session that wait to be looked at. Some come with each break and each message too
/// many; none carries something that another of its kind would not.
const EVENTS: usize = 128;

/// A session, and what comes over it for the driver.
pub(crate) struct Wires {
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
pub(crate) async fn first_session(config: &CheckedNatsConfig) -> Result<Wires, Error> {
    let deadline = Instant::now() + config.startup_timeout;
    let mut last = None;
    let mut retries = retries(config);
    for attempt in 1.. {
        match timeout_at(deadline, establish(config, 0)).await {
            Ok(Ok(wires)) => return Ok(wires),
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

/// Attends to a link until it is done.
pub(crate) async fn drive(link: Arc<Link>, mut wires: Wires) {
    loop {
        let next = match attend(&link, &mut wires).await {
            Left::Done => break,
            Left::Died => {
                tracing::error!("the NATS client has ended; making another");
                link.sessions.send_replace(None);
                link.pending.lose(wires.session.epoch, u64::MAX);
                link.stop.done.run_until_cancelled(another(&link, &wires.session)).await
            }
            Left::LameDuck => {
                tracing::info!("the NATS server is going away; looking for another");
                replacement(&link, &mut wires).await
            }
        };
        let Some(next) = next else { continue };
        let old = std::mem::replace(&mut wires, next);
        link.sessions.send_replace(Some(wires.session.clone()));
        link.counters.replaced.count();
        link.drivers.spawn(retire(Arc::clone(&link), old));
    }
    link.sessions.send_replace(None);
    link.pending.lose(wires.session.epoch, u64::MAX);
}

/// Makes a session that takes the place of one whose server goes away, while that one goes on.
/// `None` if it got over it by itself, or is beyond help: then attending says so.
async fn replacement(link: &Arc<Link>, wires: &mut Wires) -> Option<Wires> {
    let session = wires.session.clone();
    let connects = session.connects();
    let mut another = std::pin::pin!(another(link, &session));
    loop {
        tokio::select! {
            biased;
            () = link.stop.done.cancelled() => return None,
            next = &mut another => return Some(next),
            event = wires.events.recv() => {
                let left = on_event(link, &session, event);
                if session.connects() != connects || matches!(left, Some(Left::Died)) {
                    return None;
                }
            }
            reply = wires.replies.next() => {
                if on_reply(link, &session, reply).is_some() {
                    return None;
                }
            }
        }
    }
}

/// Attends to a session that was replaced until everything sent over it has an answer or none
/// that counts; endpoints leave it meanwhile.
async fn retire(link: Arc<Link>, mut wires: Wires) {
    let until_it_ends = async { while let Left::LameDuck = attend(&link, &mut wires).await {} };
    let _ = timeout(link.config.request_timeout, until_it_ends).await;
    link.pending.lose(wires.session.epoch, u64::MAX);
}

/// Makes a session, however long it takes.
async fn another(link: &Link, last: &Session) -> Wires {
    let mut retries = retries(&link.config);
    for attempt in 1.. {
        match establish(&link.config, last.epoch + 1).await {
            Ok(wires) => return wires,
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
async fn establish(config: &CheckedNatsConfig, epoch: u64) -> Result<Wires, NoSession> {
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
    Ok(Wires { session: Session { client, inbox: inbox.into(), epoch }, events, replies })
}

/// Why the driver turns away from a session.
enum Left {
    /// The link is done.
    Done,
    /// The client has ended by itself. A peer can make it: a bare CR in a header value is enough.
    Died,
    /// Its server goes away soon.
    LameDuck,
}

async fn attend(link: &Link, wires: &mut Wires) -> Left {
    loop {
        let left = tokio::select! {
            biased;
            () = link.stop.done.cancelled() => Some(Left::Done),
            event = wires.events.recv() => on_event(link, &wires.session, event),
            reply = wires.replies.next() => on_reply(link, &wires.session, reply),
        };
        if let Some(left) = left {
            return left;
        }
    }
}

fn on_event(link: &Link, session: &Session, event: Option<Event>) -> Option<Left> {
    match event {
        None | Some(Event::Closed) => return Some(Left::Died),
        Some(Event::LameDuckMode) => return Some(Left::LameDuck),
        Some(Event::Disconnected) => {
            // One that was replaced may break unnoticed.
            if link.sessions.borrow().as_ref().is_some_and(|used| used.epoch == session.epoch) {
                tracing::warn!("the connection to NATS broke; connecting again");
                link.counters.disconnects.count();
            }
            lose_what_broke(link, session);
        }
        Some(Event::Connected) => {
            link.counters.note_reconnect();
            lose_what_broke(link, session);
        }
        Some(Event::SlowConsumer(_)) => {
            tracing::warn!("NATS messages came faster than they were read; some are lost");
            link.counters.slow_consumer.count();
        }
        Some(Event::ServerError(ServerError::Other(text))) => {
            // Server texts name subjects and no secrets.
            tracing::warn!(error = %text, "the NATS server reports an error");
            if let Some(subject) = denied_subject(&text, "Publish") {
                link.pending.deny(session.epoch, subject);
            }
            if let Some(subject) = denied_subject(&text, "Subscription") {
                // Fails while nobody registers, and then nobody asks.
                let _ = link.denied_subscriptions.send(subject.into());
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
fn lose_what_broke(link: &Link, session: &Session) {
    let connects = session.connects();
    let current = if session.is_connected() { connects } else { connects + 1 };
    link.pending.lose(session.epoch, current);
}

fn on_reply(link: &Link, session: &Session, message: Option<Message>) -> Option<Left> {
    let Some(message) = message else { return Some(Left::Died) };
    let inbox = &*session.inbox;
    let token = message.subject.strip_prefix(inbox).and_then(|rest| rest.strip_prefix('.'));
    let token = token.unwrap_or_default().to_owned();
    if !link.pending.reply(&token, message, link.account.as_ref()) {
        link.counters.late_replies.count();
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
