//! The routes to the instances with the transport of a policy first.

use std::{ops::Deref, sync::Arc};

use sinew_plane::TransportId;
use sinew_registry::Route;

/// The routes to an instance, in the order in which they are tried.
#[derive(Clone)]
pub(crate) enum Routes<'a> {
    /// The default order.
    Default(&'a [Route]),
    /// The transport of the policy first.
    Pinned(Arc<[Route]>),
}

impl Deref for Routes<'_> {
    type Target = [Route];

    fn deref(&self) -> &[Route] {
        match self {
            Self::Default(routes) => routes,
            Self::Pinned(routes) => routes,
        }
    }
}

/// For each instance of a list its routes with one transport first, or nothing if none is of it.
#[derive(Default)]
pub(crate) struct Pinned {
    transport: Option<TransportId>,
    routes: Vec<Option<Arc<[Route]>>>,
}

impl Pinned {
    pub(crate) fn new(transport: &TransportId, instances: &[Vec<Route>]) -> Self {
        let routes = instances.iter().map(|routes| first(transport, routes)).collect();
        Self { transport: Some(transport.clone()), routes }
    }

    pub(crate) fn is_for(&self, transport: &TransportId) -> bool {
        self.transport.as_ref() == Some(transport)
    }

    pub(crate) fn of(&self, index: usize) -> Option<Arc<[Route]>> {
        self.routes.get(index).cloned().flatten()
    }
}

fn first(transport: &TransportId, routes: &[Route]) -> Option<Arc<[Route]>> {
    let is_it = |route: &&Route| route.transport.id() == transport;
    routes.iter().find(is_it)?;
    let (it, rest): (Vec<_>, Vec<_>) = routes.iter().partition(is_it);
    Some(it.into_iter().chain(rest).cloned().collect())
}
