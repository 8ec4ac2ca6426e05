//! One request to the server for items.

use std::time::Duration;

use async_nats::Message;
use futures_util::StreamExt;
use serde::Serialize;
use sinew_plane::{Code, Error, Executed};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{layout::CONSUMER, settings::CheckedQueueConfig};
use crate::{
    connection_state::ConnectionState,
    pending::{Answer, Expected},
};

/// The server says that there is nothing, or nothing more.
const NO_MESSAGES: u16 = 404;
const TIMED_OUT: u16 = 408;
/// Nobody listens for the request, so there is no JetStream.
const NO_RESPONDERS: u16 = 503;

pub(super) struct Pull<'a> {
    pub(super) state: &'a ConnectionState,
    pub(super) config: &'a CheckedQueueConfig,
    pub(super) limit: usize,
    /// Most bytes of items together.
    pub(super) max_bytes: Option<usize>,
    /// How long the server waits for the first item.
    pub(super) expires: Duration,
}

/// With both, the server waits for the first item, and then gives what it has and says so.
#[derive(Serialize)]
struct PullRequest {
    batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<usize>,
    no_wait: bool,
    expires: u128,
}

impl Pull<'_> {
    /// Asks, and waits until the server is done with it, so that nothing comes when nobody
    /// listens any more.
    pub(super) async fn run(&self) -> Result<Vec<Message>, Error> {
        let session = self.state.connected()?;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{CONSUMER}", self.config.name);
        // The items come elsewhere; this hears that the connection breaks.
        let (mut expected, _) = self.state.expect(&session, &subject)?;
        let deadline = Instant::now() + self.expires + self.state.config.request_timeout;
        let inbox = session.client.new_inbox();
        let ended = || Error::new(Code::ConnectFailed, "the NATS client has ended");
        let mut messages = session.client.subscribe(inbox.clone()).await.map_err(|_| ended())?;
        let request = PullRequest {
            batch: self.limit,
            max_bytes: self.max_bytes,
            no_wait: true,
            expires: self.expires.as_nanos(),
        };
        let request = serde_json::to_vec(&request).map_err(|_| ended())?;
        let sent = session.client.publish_with_reply(subject, inbox, request.into());
        match timeout_at(deadline, sent).await {
            Ok(Ok(())) => {}
            _ => return Err(ended()),
        }
        let mut taken = Vec::new();
        while taken.len() < self.limit {
            match next(&mut messages, &mut expected, deadline).await {
                Next::Item(message) => taken.push(message),
                Next::End => break,
                // What has come can be worked on, and settled when there is a connection again.
                Next::Failed(_) if !taken.is_empty() => break,
                Next::Failed(error) => return Err(error),
            }
        }
        Ok(taken)
    }
}

enum Next {
    Item(Message),
    End,
    Failed(Error),
}

async fn next(
    messages: &mut async_nats::Subscriber,
    expected: &mut Expected<'_>,
    deadline: Instant,
) -> Next {
    let lost = |text: &str| {
        let error = Error::new(Code::ConnectionLost, text).with_executed(Executed::Maybe);
        Next::Failed(error)
    };
    tokio::select! {
        biased;
        message = messages.next() => match message {
            Some(message) => sorted(message),
            None => lost("the NATS client has ended"),
        },
        answer = expected.answer() => match answer {
            Answer::Denied { .. } => {
                let message = "the NATS server does not let us ask for items of the queue";
                Next::Failed(Error::new(Code::ConnectFailed, message))
            }
            Answer::Lost | Answer::NoRoom | Answer::Reply(_) => lost("the connection to the NATS server broke"),
        },
        // What a server does whose consumer is gone.
        () = sleep_until(deadline) => {
            let message = "nobody answers for the queue";
            Next::Failed(Error::new(Code::UnknownEndpoint, message))
        }
    }
}

/// Tells items from what the server says.
fn sorted(message: Message) -> Next {
    let Some(status) = message.status else { return Next::Item(message) };
    let fault = |code, text: String| Next::Failed(Error::new(code, text));
    match status.as_u16() {
        NO_MESSAGES | TIMED_OUT => Next::End,
        NO_RESPONDERS => fault(Code::UnknownEndpoint, "there is no JetStream".to_owned()),
        status => {
            let text = message.description.unwrap_or_default();
            let code = match text.contains("Consumer Deleted") {
                true => Code::UnknownEndpoint,
                false => Code::Overloaded,
            };
            fault(code, format!("JetStream gives out nothing: {status} {text}"))
        }
    }
}
