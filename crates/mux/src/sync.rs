//! The lock types of streams and connections, in one place, so that a test of thread interleavings
//! can replace them.

pub(crate) use parking_lot::{Mutex, MutexGuard};
