//! Somebody's interest in an endpoint.

use std::{fmt, sync::Arc};

/// Somebody's interest in an endpoint, from [`Discovery::want`](crate::Discovery::want). It ends
/// when the last clone is dropped; [`View::holding`](crate::View::holding) keeps it as long as a
/// view.
#[derive(Clone, Default)]
#[must_use = "dropping it takes it back: then views may lose the endpoint's instances"]
pub struct Interest(Option<Arc<dyn Send + Sync>>);

impl Interest {
    /// Interest that ends with `guard`: whatever its `Drop` does takes the interest back. It runs
    /// wherever a request ends, so it must not block. A backend with nothing to take back returns
    /// the default instead.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(guard)))
    }

    /// This interest and another one, as one.
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
