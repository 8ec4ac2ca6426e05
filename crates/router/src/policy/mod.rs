//! Follows the plane policy of an endpoint: over which transport its streams are to go.
//!
//! A router whose discovery can hold policies keeps a list of its running streams ([`running`]). One
//! task ([`follow`]) watches the policy. It has new streams go first ([`share`]), then moves running
//! ones in steps ([`moving`]), and moves all back when they fare worse ([`health`]).

mod config;
mod ends;
mod follow;
mod health;
mod moves;
mod moving;
mod observe;
mod pinned;
mod running;
mod share;

use std::{
    pin::pin,
    sync::{Arc, OnceLock},
    task,
};

use sinew_discovery::{PlanePolicy, PolicyView};
use sinew_plane::EndpointName;
use tokio::{runtime::Handle, task::AbortHandle};

use self::follow::{Following, follow};
pub use self::{
    config::{CheckedPolicyConfig, PolicyConfig},
    moves::{TransportMove, TransportMoves},
};
pub(crate) use self::{
    pinned::{Pinned, Routes},
    running::{Begun, Kept},
    share::NewStreams,
};

/// What a router does because of the policy of its endpoint.
pub(crate) struct Policies {
    following: Arc<Following>,
    view: PolicyView,
    /// Begins with the first request, which is within a runtime.
    task: OnceLock<Option<Task>>,
}

/// Ends with the router.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The policy that new streams follow.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) policy: Arc<PlanePolicy>,
    new: NewStreams,
}

impl Policies {
    pub(crate) fn new(
        endpoint: EndpointName,
        view: PolicyView,
        config: CheckedPolicyConfig,
    ) -> Arc<Self> {
        let following = Arc::new(Following::new(endpoint, config));
        Arc::new(Self { following, view, task: OnceLock::new() })
    }

    /// Chooses for a new stream. The policy, if the stream is to go over its transport.
    pub(crate) fn choose(&self) -> Option<Arc<Current>> {
        self.task.get_or_init(|| self.start());
        self.following.current().filter(|current| current.new.takes_next())
    }

    /// Adds a running stream until the result is dropped.
    pub(crate) fn add(&self, begun: Begun) -> Kept {
        self.following.running.add(begun)
    }

    /// The instance has no address for the transport of the policy, or a new stream that was to go
    /// over it went elsewhere.
    pub(crate) fn not_followed(&self) {
        self.following.metrics.not_followed();
    }

    fn start(&self) -> Option<Task> {
        let runtime = Handle::try_current().ok()?;
        let mut following = Box::pin(follow(Arc::clone(&self.following), self.view.clone()));
        // A policy that is known by now counts for the first request already.
        let mut no_waker = task::Context::from_waker(task::Waker::noop());
        if pin!(&mut following).poll(&mut no_waker).is_ready() {
            return None;
        }
        Some(Task(runtime.spawn(following).abort_handle()))
    }
}

#[cfg(test)]
impl Policies {
    pub(crate) fn running(&self) -> usize {
        self.following.running.len()
    }

    /// Where the running streams are, as their connections say.
    pub(crate) fn places(&self) -> Vec<sinew_plane::StreamPlace> {
        let mut places = Vec::new();
        self.following.running.each(|_, entry, _| places.extend(entry.stream.place()));
        places
    }

    /// Lives as long as the task, if there is one, and the router.
    pub(crate) fn ends_with(&self) -> std::sync::Weak<impl Sized + use<>> {
        Arc::downgrade(&self.following)
    }
}
