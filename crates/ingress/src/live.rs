//! The contexts of the requests in flight, to be cut all at once.

use parking_lot::Mutex;
use sinew_plane::{CancelReason, Context, StopKind};
use slab::Slab;

/// Contexts of admitted requests; the gate in front of it bounds their number.
#[derive(Default)]
pub(crate) struct Live(Mutex<State>);

#[derive(Default)]
struct State {
    contexts: Slab<Context>,
    /// Set once cut: a request that passed the gate just before is cut on arrival.
    cut: Option<CancelReason>,
}

impl Live {
    pub(crate) fn insert(&self, context: &Context) -> usize {
        let (key, cut) = {
            let mut state = self.0.lock();
            (state.contexts.insert(context.clone()), state.cut)
        };
        if let Some(reason) = cut {
            context.cancel(StopKind::Kill, reason);
        }
        key
    }

    pub(crate) fn remove(&self, key: usize) {
        let context = self.0.lock().contexts.try_remove(key);
        drop(context);
    }

    /// Kills every request that is here and every one still to come.
    pub(crate) fn cut(&self, reason: CancelReason) {
        let contexts: Vec<_> = {
            let mut state = self.0.lock();
            state.cut = Some(reason);
            state.contexts.iter().map(|(_, context)| context.clone()).collect()
        };
        // Outside the lock: a cancel calls listeners, which may end the request.
        for context in contexts {
            context.cancel(StopKind::Kill, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_here_and_who_comes_later_is_cut_and_who_left_is_not() {
        let live = Live::default();
        let [here, gone, late] = [(); 3].map(|()| Context::new());
        live.insert(&here);
        let key = live.insert(&gone);
        live.remove(key);
        live.cut(CancelReason::Shutdown);
        live.insert(&late);
        assert!(here.is_killed() && late.is_killed() && !gone.is_stopped());
        assert_eq!(late.reason(), Some(CancelReason::Shutdown));
    }
}
