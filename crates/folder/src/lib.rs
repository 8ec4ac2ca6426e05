//! Folders that only the right users can change.
//!
//! A [`Folder`] is opened component by component, never through a symbolic link that another user
//! could have made. The checks are made on the descriptor that is then used, because a name may
//! lead to another file a moment later. Files inside are accessed relative to that descriptor.
//! [`Rules`] say which users are trusted, and [`FolderError`] says which folder is refused and why.
//!
//! This crate does not interpret the files. It starts no thread and reads no environment; its calls
//! block as file systems do.

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

/// The number of the effective user of this process.
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
