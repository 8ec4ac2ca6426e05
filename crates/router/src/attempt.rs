//! One attempt of a request at one instance.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
};

use serde_core::de::DeserializeOwned;
use sinew_codec::PayloadFormat;
use sinew_plane::{Context, Error, ManyOut, OutgoingRequest, TransportId};
use sinew_registry::LocalCall;

use crate::{
    active_attempt::ActiveAttempt,
    in_process,
    policy::{Begun, Routes, TransportMoves},
    push_router::Shared,
    response::Remote,
};

/// An attempt that is ready to be sent. It holds the count of its instance and does not borrow the
/// request, so that two attempts of one request can run at once. Dropping it cancels what it has
/// sent.
pub(crate) struct Attempt<'a, Req, Resp> {
    pub(super) shared: &'a Shared,
    /// The context of the whole request.
    pub(super) context: &'a Context,
    /// True from the moment when the request may have reached an instance.
    pub(super) sent: &'a AtomicBool,
    pub(super) active: ActiveAttempt,
    pub(super) way: Way<'a, Req, Resp>,
    /// The moves of the response.
    pub(super) moves: TransportMoves,
}

#[expect(clippy::large_enum_variant, reason = "in a box it would cost each call an allocation")]
pub(crate) enum Way<'a, Req, Resp> {
    /// To an engine in this process, with the value itself.
    Local { call: LocalCall<Req, Resp>, data: Req },
    /// Over a transport.
    Remote {
        routes: Routes<'a>,
        format: PayloadFormat,
        request: OutgoingRequest,
        /// The result of sending at once, if a connection was up.
        opened: Option<Result<Pin<Box<Remote<Resp>>>, Error>>,
    },
}

/// What a worker that has accepted the request answers.
pub(crate) enum Answer<Resp> {
    /// An engine in this process.
    Local(ManyOut<Resp>),
    /// A worker, over a transport.
    Remote { response: Pin<Box<Remote<Resp>>>, active: ActiveAttempt, transport: TransportId },
}

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// The request could not be encoded, or an interceptor failed: that says nothing of the
    /// instance.
    Unprepared(Error),
    /// An error of the instance, or of the way to it.
    Instance(Error),
}

impl AttemptError {
    pub(crate) fn error(&self) -> &Error {
        let (Self::Unprepared(error) | Self::Instance(error)) = self;
        error
    }
}

impl From<Error> for AttemptError {
    fn from(error: Error) -> Self {
        Self::Instance(error)
    }
}

impl<Req, Resp> Attempt<'_, Req, Resp>
where
    Resp: DeserializeOwned + Send + 'static,
{
    /// Sends the request at once if that needs no wait. False if a connection has to be made first;
    /// then nothing was sent.
    pub(crate) fn send_now(&mut self) -> bool {
        let Way::Remote { routes, format, request, opened } = &mut self.way else { return true };
        let registry = self.shared.client.addressed().registry();
        let Some(sent) = registry.open_now(routes, request) else { return false };
        *opened = Some(sent.map(|sent| Remote::sent(sent, *format, self.context)));
        self.sent.store(true, Ordering::Relaxed);
        true
    }

    /// True if a connection has to be made before the request can be sent.
    pub(crate) fn must_connect(&self) -> bool {
        let Way::Remote { routes, .. } = &self.way else { return false };
        let registry = self.shared.client.addressed().registry();
        registry.connect(routes, self.context).is_some()
    }

    /// Waits until a worker has accepted the request.
    ///
    /// # Errors
    /// No connection, a refusal, a failure before the first item, or the cancel.
    pub(crate) async fn run(self) -> Result<Answer<Resp>, Error> {
        let Self { shared, context, sent, mut active, way, moves } = self;
        match way {
            Way::Local { call, data } => {
                sent.store(true, Ordering::Relaxed);
                let response = in_process::call(call, data, context, shared.limits, active);
                Ok(Answer::Local(response.await?))
            }
            Way::Remote { routes, format, request, opened } => {
                let own = request.context.clone();
                let mut response = match opened {
                    Some(opened) => opened?,
                    None => {
                        sent.store(true, Ordering::Relaxed);
                        let opening = shared.client.addressed().open(&routes, request);
                        // On the heap, so that the usual way does not pay for its room.
                        Remote::sent(Box::pin(opening).await?, format, context)
                    }
                };
                let transport = response.accepted(&own).await?;
                if let Some(policies) = &shared.policies {
                    active.kept = response.running().map(|stream| {
                        policies.add(Begun {
                            stream,
                            client: shared.client.clone(),
                            instance: active.instance.id,
                            transport: transport.clone(),
                            is_pinned: matches!(routes, Routes::Pinned(_)),
                            moves,
                        })
                    });
                }
                Ok(Answer::Remote { response, active, transport })
            }
        }
    }
}
