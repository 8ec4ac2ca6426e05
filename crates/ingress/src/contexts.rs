//! The contexts of the requests in flight, so that a shutdown can cut all of them.

use sinew_plane::{CancelReason, Context, InFlightKey, InFlightSet, StopKind};

/// Contexts of admitted requests. The admission limit bounds their number.
pub(crate) struct InFlightContexts(InFlightSet<Context>);

impl InFlightContexts {
    pub(crate) fn new() -> Self {
        Self(InFlightSet::new(usize::MAX))
    }

    /// Adds the context of an admitted request. `None` if all were cut since its admission: the
    /// request is then cut here.
    pub(crate) fn insert(&self, context: &Context) -> Option<InFlightKey> {
        let key = self.0.insert(context.clone()).ok();
        if key.is_none() {
            context.cancel(StopKind::Kill, CancelReason::Shutdown);
        }
        key
    }

    pub(crate) fn remove(&self, key: InFlightKey) {
        self.0.remove(key);
    }

    /// Kills every request in flight and every later one, with the reason `Shutdown`.
    pub(crate) fn cut(&self) {
        for context in self.0.cut() {
            context.cancel(StopKind::Kill, CancelReason::Shutdown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_here_and_who_comes_later_is_cut_and_who_left_is_not() {
        let contexts = InFlightContexts::new();
        let [here, gone, late] = [(); 3].map(|()| Context::new());
        contexts.insert(&here).unwrap();
        let key = contexts.insert(&gone).unwrap();
        contexts.remove(key);
        contexts.cut();
        assert_eq!(contexts.insert(&late), None);
        assert!(here.is_killed() && late.is_killed() && !gone.is_stopped());
        assert_eq!(late.reason(), Some(CancelReason::Shutdown));
    }
}
