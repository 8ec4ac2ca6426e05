//! Metrics of streams that outlive their worker.

use crate::names;

/// Counts a response stream that a router continued at another instance. `why` is one of a few words.
/// Looks up the counter at each call, which is rare.
pub fn stream_continued(why: &'static str) {
    metrics::counter!(names::STREAMS_CONTINUED, names::WHY => why).increment(1);
}
