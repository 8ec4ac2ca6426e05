//! One write for many sends: flushes inside a [`burst`] wait for its end.

use std::{cell::RefCell, sync::Arc};

/// Something whose output can wait, typically a connection.
pub trait Flush: Send + Sync {
    /// Writes the gathered output. Must not block.
    fn flush(&self);
}

#[derive(Default)]
struct Pending {
    depth: usize,
    targets: Vec<Arc<dyn Flush>>,
}

thread_local! {
    static PENDING: RefCell<Pending> = RefCell::default();
}

/// Runs `work`, and at its end flushes once every connection on which `work` has sent.
///
/// An engine that emits one item on each of many streams per step wraps the step in a burst: 256
/// items for 4 callers then leave in 4 writes. Bursts nest; the outermost one flushes, also if
/// `work` panics. A burst is bound to the calling thread, so `work` cannot await.
///
/// ```
/// let sum = sinew_plane::burst(|| {
///     // for sink in sinks { sink.try_send(token)?; }
///     1 + 1
/// });
/// assert_eq!(sum, 2);
/// ```
pub fn burst<T>(work: impl FnOnce() -> T) -> T {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            let mut targets = PENDING.with_borrow_mut(|pending| {
                pending.depth -= 1;
                if pending.depth == 0 { std::mem::take(&mut pending.targets) } else { Vec::new() }
            });
            for target in targets.drain(..) {
                target.flush();
            }
            // For the next burst, unless a flush ran one of its own.
            PENDING.with_borrow_mut(|pending| {
                if pending.targets.capacity() == 0 {
                    pending.targets = targets;
                }
            });
        }
    }
    PENDING.with_borrow_mut(|pending| pending.depth += 1);
    let _end = End;
    work()
}

/// Leaves the flush of `target` to the burst that runs on this thread. False if there is none; the
/// caller then has to flush.
pub fn defer_flush<T: Flush + 'static>(target: &Arc<T>) -> bool {
    PENDING.with_borrow_mut(|pending| {
        if pending.depth == 0 {
            return false;
        }
        // A burst touches few connections, so a scan is cheaper than a set; the newest is the
        // likeliest.
        let address = Arc::as_ptr(target).cast::<()>();
        let known = |seen: &Arc<dyn Flush>| Arc::as_ptr(seen).cast::<()>() == address;
        if !pending.targets.iter().rev().any(known) {
            pending.targets.push(Arc::clone(target) as Arc<dyn Flush>);
        }
        true
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Flush for Counter {
        fn flush(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_burst_flushes_each_target_once() {
        let (a, b) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        assert!(!defer_flush(&a), "outside a burst nothing is deferred");
        burst(|| {
            for _ in 0..100 {
                assert!(defer_flush(&a) && defer_flush(&b));
            }
            burst(|| assert!(defer_flush(&a)));
            assert_eq!(a.0.load(Ordering::Relaxed), 0);
        });
        assert_eq!((a.0.load(Ordering::Relaxed), b.0.load(Ordering::Relaxed)), (1, 1));
        assert!(!defer_flush(&a));
    }

    #[test]
    fn a_panic_inside_still_flushes() {
        let target = Arc::new(Counter::default());
        let inner = Arc::clone(&target);
        let result = std::panic::catch_unwind(move || {
            burst(|| {
                defer_flush(&inner);
                panic!("handler bug");
            })
        });
        assert!(result.is_err());
        assert_eq!(target.0.load(Ordering::Relaxed), 1);
        assert!(!defer_flush(&target));
    }
}
