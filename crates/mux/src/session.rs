//! What outlives a connection: the streams of a peer process by their ids.

mod callers;

pub use self::callers::Callers;
pub(crate) use self::callers::{Presence, StreamIds, duplicate};
