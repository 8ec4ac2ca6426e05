//! What outlives a connection: the streams between two processes by their ids.
//!
//! The end that produces a stream keeps it in a [`Session`] for its consumer, and the end that consumes
//! it keeps it in a [`Detached`] until it comes back over another connection.

mod detached;
mod ids;
mod served;
mod sessions;

pub use self::{detached::Detached, sessions::Sessions};
pub(crate) use self::{ids::duplicate, served::Session, sessions::Presence};
