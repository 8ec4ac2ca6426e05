//! A place among the requests in flight of a handler, which is reserved first and used later.

use std::{fmt, sync::Arc};

use crate::{IncomingRequest, ResponseSink};

/// The place that a [`Permit`] stands for. Code that admits requests implements it. A place is
/// either used once or released once.
pub trait Place: Send + Sync {
    /// Serves a request in the place, and releases the place when the request has ended. Returns at
    /// once.
    fn call(self: Arc<Self>, request: IncomingRequest<'_>, sink: ResponseSink);

    /// Releases the place unused.
    fn release(&self);
}

/// A place for one request, reserved before the request has a sink for its response. A drain that
/// begins in between waits for the request, and no other request takes the place. Dropping the
/// permit releases the place.
#[must_use = "the place is given back once this is dropped"]
pub struct Permit(Option<Arc<dyn Place>>);

impl Permit {
    /// Makes a permit from a place that was reserved for it.
    pub fn new(place: Arc<dyn Place>) -> Self {
        Self(Some(place))
    }

    /// Passes the request on. It is not refused for lack of room, nor for a drain.
    pub fn call(mut self, request: IncomingRequest<'_>, sink: ResponseSink) {
        if let Some(place) = self.0.take() {
            place.call(request, sink);
        }
    }

    /// Passes the place to the caller of this method, which has to release it.
    pub fn take_over(mut self) {
        self.0 = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            place.release();
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counts {
        released: AtomicUsize,
    }

    impl Place for Counts {
        fn call(self: Arc<Self>, _: IncomingRequest<'_>, sink: ResponseSink) {
            sink.complete();
        }

        fn release(&self) {
            self.released.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_place_is_given_back_once_unless_it_is_taken_over() {
        let place = Arc::new(Counts::default());
        drop(Permit::new(Arc::clone(&place) as _));
        assert_eq!(place.released.load(Ordering::Relaxed), 1);
        Permit::new(Arc::clone(&place) as _).take_over();
        assert_eq!(place.released.load(Ordering::Relaxed), 1);
    }
}
