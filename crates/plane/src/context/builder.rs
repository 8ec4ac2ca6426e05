//! The builder of a context.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Context, Inner, RUNNING, Rare};
use crate::{CallLimits, Headers, StreamId, clock};

/// A builder for a [`Context`].
#[derive(Debug)]
pub struct ContextBuilder {
    pub(super) id: Option<StreamId>,
    pub(super) headers: Headers,
    pub(super) rare: Option<Box<Rare>>,
    pub(super) deadline: Option<Instant>,
    pub(super) limits: CallLimits,
}

impl ContextBuilder {
    /// Sets the id. The default is random.
    #[must_use]
    pub fn id(mut self, id: StreamId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the headers.
    #[must_use]
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the instant by which the response has to end.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the deadline to `timeout` from now. A time that is too long to add to the clock means
    /// no deadline.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.deadline = clock::now().checked_add(timeout);
        self
    }

    /// Sets the time limits of its calls. The router's limits apply where these are `None`.
    #[must_use]
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the longest wait until the worker has accepted; [`Duration::MAX`] means no limit.
    #[must_use]
    pub fn accept_timeout(mut self, limit: Duration) -> Self {
        self.limits.accept = Some(limit);
        self
    }

    /// Sets the longest wait for the first item; [`Duration::MAX`], the default, means no limit.
    #[must_use]
    pub fn first_item_timeout(mut self, limit: Duration) -> Self {
        self.limits.first_item = Some(limit);
        self
    }

    /// Sets the longest wait for each further item; [`Duration::MAX`], the default, means no limit.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle = Some(limit);
        self
    }

    /// Sets how long its streams wait for another connection when they have lost their own; zero
    /// ends them with it.
    #[must_use]
    pub fn resume_grace(mut self, grace: Duration) -> Self {
        self.limits.resume_grace = Some(grace);
        self
    }

    /// Makes the context.
    pub fn build(self) -> Context {
        Context(
            Arc::new(Inner {
                id: self.id.unwrap_or_else(StreamId::random),
                headers: self.headers,
                rare: self.rare,
                deadline: self.deadline,
                limits: self.limits,
                used: AtomicBool::new(false),
                state: AtomicU8::new(RUNNING),
                reason: AtomicU8::new(0),
                changed: Notify::new(),
                listeners: Mutex::default(),
            }),
            false,
        )
    }
}
