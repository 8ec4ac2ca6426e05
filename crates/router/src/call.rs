//! The loop of one call: pick an instance, attempt the request there, classify the result.

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_plane::{Continuation, Error, ManyOut, clock};

use crate::{
    Explanation, LOCAL,
    attempt::{Answer, AttemptError},
    request::Request,
};

impl<Req, Resp> Request<'_, Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    /// Sends the request until a worker has accepted it.
    ///
    /// # Errors
    /// The error of all attempts together, or the cancel.
    pub(crate) async fn run(mut self) -> Result<(ManyOut<Resp>, Explanation), Error> {
        let mut now = clock::now();
        self.shared.state.on_request(now);
        // One that is connected, where another one that was chosen before is slow to be.
        let mut quicker = None;
        loop {
            if self.context.is_stopped() {
                return Err(self.cancelled());
            }
            let (members, chosen) = match quicker.take() {
                Some(quicker) => quicker,
                None => {
                    let members = self.shared.client.members();
                    let Some(chosen) = self.pick(&members, now) else {
                        self.next_round(&members).await?;
                        now = clock::now();
                        continue;
                    };
                    (members, chosen)
                }
            };
            let choice = chosen.choice;
            let result = match self.attempt(&members, chosen) {
                Ok(None) => {
                    now = clock::now();
                    continue;
                }
                Ok(Some(mut attempt)) => {
                    let elsewhere = if attempt.send_now() || !attempt.must_connect() {
                        Ok(None)
                    } else {
                        // On the heap, so that the usual way does not pay for the room that
                        // waiting takes.
                        Box::pin(self.connect(&members, &choice)).await
                    };
                    match elsewhere {
                        Ok(None) => attempt.run().await.map_err(AttemptError::from),
                        Ok(Some(other)) => {
                            drop(attempt);
                            quicker = Some((members, other));
                            continue;
                        }
                        Err(error) => Err(error.into()),
                    }
                }
                Err(error) => Err(error),
            };
            let instance = &members.instances[choice.index];
            match result {
                Ok(answer) => {
                    self.shared.state.served(instance, now);
                    let (response, transport) = match answer {
                        Answer::Local(response) => (response, LOCAL),
                        Answer::Remote { response, active, transport } => {
                            let response = match instance.continuation {
                                Continuation::None => response.into_body(active),
                                _ => self.continuing(response, active),
                            };
                            (response, transport)
                        }
                    };
                    let (instance, why) = (choice.id, choice.why);
                    let (policy, moves) = (self.followed(&transport), self.moves);
                    let attempts = self.attempts.into_failed();
                    let explanation =
                        Explanation { instance, why, transport, policy, moves, attempts };
                    return Ok((response, explanation));
                }
                Err(failed) => {
                    let error = failed.error();
                    tracing::debug!(
                        instance = %instance.key(), code = %error.code(), %error, "attempt failed"
                    );
                    now = clock::now();
                    self.failed(instance, failed, now);
                    self.again(now).await?;
                }
            }
        }
    }
}
