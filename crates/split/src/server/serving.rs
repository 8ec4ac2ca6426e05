//! A request that was accepted: its caller is dialled back, and its handler runs.

use std::sync::{Arc, atomic::Ordering};

use sinew_plane::{
    ACCEPTANCE_LOOK, Acceptance, Code, Error, IncomingRequest, Permit as Place, RequestStream,
    ResponseSink, timeout,
};

use super::{
    LateFrames,
    bidirectional::Bidirectional,
    received_request::ReceivedRequest,
    shared::{Permit, Shared},
};
use crate::{PeerResponse, peer_codec::PeerItems};

impl Shared {
    /// Dials the caller of a request back.
    async fn dial_back(&self, request: &ReceivedRequest) -> Option<ResponseSink> {
        let ReceivedRequest { connection_info, peer, context, .. } = request;
        let dialling = self.responses.connect(connection_info, peer.origin, context.clone());
        let dialled = tokio::select! {
            biased;
            () = self.cut.cancelled() => return None,
            dialled = self.in_time(dialling) => dialled,
        };
        match dialled {
            Ok(sink) => Some(sink),
            // The caller has given up, which is no fault.
            Err(error) if error.code() == Code::Cancelled => {
                tracing::debug!(endpoint = request.endpoint, %error, "a request is not run");
                None
            }
            Err(error) => {
                self.failures.increment(1);
                tracing::warn!(
                    endpoint = request.endpoint,
                    request_id = %request.context.id(),
                    code = error.code().as_str(),
                    "the caller of a request could not be dialled back: {error}"
                );
                None
            }
        }
    }

    /// What reaches a caller, for as long as it may take.
    async fn in_time<T>(&self, reach: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let limit = self.config.reach_timeout;
        let reached = timeout(limit, reach).await;
        reached.unwrap_or_else(|_| {
            let message = format!("the caller was not reached within {limit:?}");
            Err(Error::new(Code::ConnectTimedOut, message))
        })
    }

    /// Runs a request for its caller, or nothing if that cannot be dialled.
    pub(super) async fn serve(
        self: Arc<Self>,
        received: ReceivedRequest,
        permit: Permit,
        place: Option<Place>,
        many: Option<Bidirectional>,
    ) {
        if received.items.is_some() {
            self.has_foreign_callers.store(true, Ordering::Relaxed);
        }
        let input = match many {
            Some(many) => {
                // In a box, so that requests of the common kind do not carry room for it.
                let items = Box::pin(self.fetch(&many, &received)).await;
                Some(items.map(|items| (many.handler, items)))
            }
            None => None,
        };
        let Some(sink) = self.dial_back(&received).await else { return };
        drop(permit);
        let sink = match received.items {
            Some(PeerItems { codec, format }) => codec.item_sink(PeerResponse {
                sink,
                format,
                context: received.context.clone(),
                max_item_bytes: self.config.max_item_bytes,
                late: LateFrames::new(&self),
            }),
            None => sink,
        };
        // Behind it the request is admitted, or the sink has ended. A handler that is slow to say
        // anything must not look like a worker that is gone.
        let acceptance = sink.acceptance();
        let request = IncomingRequest {
            endpoint: &received.endpoint,
            instance: received.instance,
            body: received.body,
            context: received.context.received(),
            transport: &received.transport,
            peer: &received.peer,
            attempt: received.attempt,
            secret: 0,
        };
        match input {
            Some(Ok((handler, items))) => handler.handle(request, items, sink),
            Some(Err(error)) => sink.reject(error),
            None => match place {
                Some(place) => place.call(request, sink),
                None => self.handler.handle(request, sink),
            },
        }
        self.admitted(acceptance);
    }

    /// A request is with its handler: its caller hears of it soon.
    fn admitted(self: &Arc<Self>, acceptance: Acceptance) {
        if self.unanswered.lock().push(acceptance, Acceptance::is_live) {
            let shared = Arc::clone(self);
            let telling = async move { shared.tell_admitted().await };
            self.acceptances.spawn_on(telling, &self.runtime);
        }
    }

    /// One task while there are requests that have not been answered.
    async fn tell_admitted(&self) {
        let mut more = true;
        while more {
            tokio::select! {
                biased;
                () = self.cut.cancelled() => return,
                () = tokio::time::sleep(ACCEPTANCE_LOOK) => {}
            }
            let mut due = Vec::new();
            more = self.unanswered.lock().look(|acceptance| due.push(acceptance));
            // Without the lock: this writes to the callers.
            due.iter().for_each(Acceptance::send);
        }
    }

    /// Dials for the items of a request.
    async fn fetch(
        &self,
        many: &Bidirectional,
        request: &ReceivedRequest,
    ) -> Result<RequestStream, Error> {
        // The shape was looked at: there is one.
        let info = request.request_stream.as_deref().unwrap_or_default();
        tokio::select! {
            biased;
            () = self.cut.cancelled() => Err(Error::draining("the worker is shutting down")),
            items = self.in_time(many.streams.connect_request_stream(
                info,
                request.peer.origin,
                request.context.clone(),
            )) => items,
        }
    }

    /// Tells a caller on the response plane why nothing runs for it.
    pub(super) async fn refuse(
        self: Arc<Self>,
        request: ReceivedRequest,
        fault: Error,
        permit: Permit,
    ) {
        if let Some(sink) = self.dial_back(&request).await {
            sink.reject(fault);
        }
        drop(permit);
    }
}
