//! Folders that only the right users can change.
//!
//! A [`Folder`] is opened component by component, never through a symbolic link that somebody
//! else could have made, and what is checked is the descriptor that is then used: a name may lead
//! elsewhere a moment later, a descriptor does not. Everything inside is reached relative to it.
//! [`Rules`] say whose folders count, [`FolderError`] says which folder is refused and why.
//!
//! This crate knows nothing of what the files hold. It starts no thread and reads no environment;
//! its calls block as file systems do.

mod error;
mod files;
mod folder;
mod owners;
mod status;
#[cfg(test)]
mod tests;
mod walk;

pub use crate::{
    error::{FolderError, Why},
    folder::Folder,
    owners::{Owners, OwnersError},
    status::{Kind, Status},
    walk::Rules,
};

/// The user that this process acts as, by number.
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
