//! An opened folder.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, fstat, statat};

use crate::{
    FolderError, Rules, Status,
    walk::{Missing, walk, walk_below},
};

/// A folder that met the rules when it was opened, held by its descriptor: if its path changes,
/// reads and writes through this value still go to the same folder.
#[derive(Debug)]
pub struct Folder {
    pub(crate) descriptor: OwnedFd,
    path: PathBuf,
    rules: Rules,
}

impl Folder {
    /// Opens a folder. A relative path starts at the current folder.
    ///
    /// # Errors
    /// [`FolderError::Untrusted`] if it breaks a rule, [`FolderError::Failed`] if it does not exist
    /// or the file system refuses.
    pub fn open(path: &Path, rules: &Rules) -> Result<Self, FolderError> {
        Self::reach(path, rules, Missing::Refuse)
    }

    /// As [`open`](Self::open), and creates missing folders on the path, closed to other users
    /// (mode 0700), or with the permissions of the umask if further users are listed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn create(path: &Path, rules: &Rules) -> Result<Self, FolderError> {
        Self::reach(path, rules, Missing::Create)
    }

    fn reach(path: &Path, rules: &Rules, missing: Missing) -> Result<Self, FolderError> {
        let path = std::path::absolute(path).map_err(|error| FolderError::failed(path, error))?;
        let descriptor = walk(&path, rules, missing)?;
        Ok(Self { descriptor, path, rules: rules.clone() })
    }

    /// Opens a folder below this one. No component may be a link, and each must meet the rules of
    /// this folder.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_below(&self, below: &Path) -> Result<Self, FolderError> {
        self.reach_below(below, Missing::Refuse)
    }

    /// As [`open_below`](Self::open_below), and creates missing folders.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn create_below(&self, below: &Path) -> Result<Self, FolderError> {
        self.reach_below(below, Missing::Create)
    }

    fn reach_below(&self, below: &Path, missing: Missing) -> Result<Self, FolderError> {
        let descriptor = walk_below(&self.descriptor, &self.path, below, &self.rules, missing)?;
        Ok(Self { descriptor, path: self.path.join(below), rules: self.rules.clone() })
    }

    /// The path with which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its current status.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn status(&self) -> io::Result<Status> {
        Ok(Status::of(&fstat(&self.descriptor)?))
    }

    /// True if its path still leads to it, and it still meets the rules. One system call, so it can
    /// be called often. False if it was removed, replaced, or opened to other users; opening it
    /// again returns the reason.
    ///
    /// # Errors
    /// An error of the file system, other than that the path does not exist.
    pub fn is_at_its_path(&self) -> io::Result<bool> {
        let there = match statat(CWD, &self.path, AtFlags::empty()) {
            Ok(stat) => Status::of(&stat),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let is_good = self.rules.check_last(&self.path, &there).is_ok();
        Ok(is_good && there.is_same_file(&self.status()?))
    }

    /// True if the file system is read-only for this process.
    pub fn is_read_only(&self) -> bool {
        let flags = rustix::fs::fstatvfs(&self.descriptor).map(|stat| stat.f_flag);
        flags.is_ok_and(|flags| flags.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
