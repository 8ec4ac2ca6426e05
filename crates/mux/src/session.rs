//! What outlives a connection: the streams between two processes, by their ids.
//!
//! The producing end keeps a stream in a [`Session`], and the consuming end keeps it in a
//! [`Detached`], until it is attached to another connection.

mod detached;
mod grace;
mod ids;
mod served;
mod sessions;

pub use self::{
    detached::{Detached, Reattached},
    sessions::Sessions,
};
pub(crate) use self::{
    detached::{Lost, behind},
    grace::Grace,
    ids::duplicate,
    served::{Loss, Session},
    sessions::Presence,
};
