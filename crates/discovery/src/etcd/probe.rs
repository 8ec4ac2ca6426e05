//! Tells a watch without events from one that is dead.

use std::time::Duration;

use etcd_client::{WatchResponse, WatchStream};
use tokio::time::{Instant, sleep_until};

use super::members::Fault;

/// A watch that has been silent for this long is asked for a sign of life. Together with the wait
/// for the answer it bounds how long a member that hangs can hide news: about 7 s.
const SILENCE: Duration = Duration::from_secs(5);

/// When the stream last said something, and whether it was asked to since.
pub(super) struct Probe {
    limit: Duration,
    heard: Instant,
    asked: Option<Instant>,
}

impl Probe {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, heard: Instant::now(), asked: None }
    }

    /// When the stream was asked for the sign of life that has not come yet.
    pub(super) fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// Asks for a message without events, which comes after all events that etcd has for the stream.
    pub(super) async fn ask(&mut self, stream: &mut WatchStream) -> Result<(), Fault> {
        let asked = stream.request_progress().await;
        asked.map_err(|error| Fault::of_member(error.to_string()))?;
        self.asked.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// The next message. Cancel-safe.
    pub(super) async fn next(&mut self, stream: &mut WatchStream) -> Result<WatchResponse, Fault> {
        loop {
            let limit = match self.asked {
                Some(asked) => asked + self.limit,
                None => self.heard + SILENCE,
            };
            let message = tokio::select! {
                biased;
                message = stream.message() => message,
                () = sleep_until(limit) => {
                    if self.asked.is_some() {
                        return Err(Fault::of_member("the watch has stopped to answer"));
                    }
                    self.ask(stream).await?;
                    continue;
                }
            };
            return match message {
                Ok(Some(message)) => {
                    self.heard = Instant::now();
                    self.asked = None;
                    Ok(message)
                }
                Ok(None) => Err(Fault::of_member("the watch was closed")),
                Err(error) => Err(Fault::of_member(error.to_string())),
            };
        }
    }
}
