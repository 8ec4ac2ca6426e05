//! Admission of a request, before its caller is dialled.

use std::{borrow::Cow, sync::Arc};

use sinew_dynamo_wire::InstancePath;
use sinew_plane::{BoxFuture, Code, Decision, Error, InstanceId, Permit as Place, PlaneRequest};

use super::{
    bidirectional::Bidirectional,
    received_request::{Destination, ReceivedRequest},
    shared::{Permit, Shared},
};

/// A request that is taken as soon as its caller may be dialled.
pub(super) struct Candidate {
    request: ReceivedRequest,
    permit: Permit,
    /// Its place at the handler, where that has places.
    place: Option<Place>,
    many: Option<Bidirectional>,
}

impl Candidate {
    pub(super) fn read(shared: &Shared, request: PlaneRequest<'_>) -> Result<Self, Error> {
        let target = request.target;
        let (endpoint, instance) = shared.look_up(target).ok_or_else(|| unknown(target))?;
        let many = shared.bidirectional.find(&endpoint);
        let bytes = request.payload.len();
        let admitted = shared.admit(&endpoint, instance, many.as_ref(), bytes);
        let (permit, place) = admitted.map_err(|error| match error.code() {
            Code::UnknownEndpoint => unknown(target),
            _ => error,
        })?;
        let destination = Destination {
            is_annotated: shared.declared.is_annotated(&endpoint),
            endpoint: endpoint.into_owned(),
            instance,
            takes_stream: many.is_some(),
        };
        let request = ReceivedRequest::read(request, destination, shared.config.peer.as_ref())?;
        let permit = shared.within_share(permit, &request)?;
        // A caller of Sinew may name another instance than its request was sent to.
        let place = place.filter(|_| request.instance == instance);
        Ok(Self { request, permit, place, many })
    }

    /// Whether its caller may be dialled: for the response, and for the items of the request where
    /// it is a stream.
    pub(super) fn check(&self, shared: &Shared) -> Decision {
        let ReceivedRequest { connection_info, peer, request_stream, .. } = &self.request;
        let response = shared.responses.check(connection_info, peer.origin);
        let (Some(many), Some(items)) = (&self.many, request_stream) else { return response };
        let items = many.streams.check_request_stream(items, peer.origin);
        match (response, items) {
            (Decision::Now(Ok(())), items) => items,
            (Decision::Now(refused), _) => Decision::Now(refused),
            (response, Decision::Now(Ok(()))) => response,
            (_, Decision::Now(refused)) => Decision::Now(refused),
            (Decision::Later(response), Decision::Later(items)) => {
                let both = async { response.await.and(items.await) };
                Decision::Later(Box::pin(both))
            }
        }
    }

    /// From here on it is accepted.
    pub(super) fn start(self, shared: &Arc<Shared>) {
        let Self { mut request, permit, place, many } = self;
        if !shared.delivered.lock().is_new(&request.connection_info) {
            // Acknowledged as the first was, whose response it asks for. A refusal would say that
            // nothing runs, and there is no other word in an acknowledgement.
            tracing::debug!(request_id = %request.context.id(), "a request came twice");
            return;
        }
        match request.fault.take() {
            Some(fault) => shared.spawn(Arc::clone(shared).refuse(request, fault, permit)),
            None => shared.spawn(Arc::clone(shared).serve(request, permit, place, many)),
        }
    }

    /// Waits for what has to be found out first.
    pub(super) async fn start_after(
        self,
        checked: BoxFuture<'static, Result<(), Error>>,
        shared: Arc<Shared>,
    ) -> Result<(), Error> {
        checked.await?;
        // The end may have begun meanwhile.
        shared.check_draining()?;
        self.start(&shared);
        Ok(())
    }
}

impl Shared {
    /// Whom a request is for.
    fn look_up<'a>(&self, target: &'a str) -> Option<(Cow<'a, str>, InstanceId)> {
        if let Some((endpoint, instance)) = self.declared.of_subject(target) {
            return Some((Cow::Owned(endpoint.as_str().to_owned()), instance));
        }
        InstancePath::parse(target).map(|path| (path.endpoint, path.instance))
    }

    /// Whether the request is taken, as far as is known without its payload.
    fn admit(
        &self,
        endpoint: &str,
        instance: InstanceId,
        many: Option<&Bidirectional>,
        bytes: usize,
    ) -> Result<(Permit, Option<Place>), Error> {
        self.check_draining()?;
        let place = match many {
            Some(_) => None,
            None => self.handler.reserve(endpoint, instance)?,
        };
        Ok((self.permit(bytes)?, place))
    }
}

/// The refusal in the words that Dynamo has for it.
fn unknown(target: &str) -> Error {
    Error::new(Code::UnknownEndpoint, format!("unknown endpoint {target}"))
}
