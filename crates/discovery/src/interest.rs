//! An interest in an endpoint, which keeps a backend watching it.

use std::{fmt, sync::Arc};

/// A caller's interest in an endpoint, from [`Discovery::want`](crate::Discovery::want). It ends
/// when the last clone is dropped; [`View::holding`](crate::View::holding) keeps it as long as a
/// view.
#[derive(Clone, Default)]
#[must_use = "dropping it takes it back: then views may lose the endpoint's instances"]
pub struct Interest(Option<Arc<dyn Send + Sync>>);

impl Interest {
    /// Makes an interest whose end drops `guard`, which has to withdraw the interest in its `Drop`.
    /// The drop may happen in any task, so it must not block. A backend that has nothing to
    /// withdraw returns the default instead.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(guard)))
    }

    /// Combines this interest with another one.
    pub fn and(self, other: Self) -> Self {
        match (self.0, other.0) {
            (None, only) | (only, None) => Self(only),
            (Some(one), Some(other)) => Self::new((one, other)),
        }
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interest")
    }
}
