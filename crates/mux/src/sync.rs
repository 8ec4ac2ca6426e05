//! The locks of the streams and connections, in one place: a test that explores how threads
//! interleave puts its own here.

pub(crate) use parking_lot::{Mutex, MutexGuard};
