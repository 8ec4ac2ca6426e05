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

/// A folder that was good when it was opened, held by its descriptor: whatever happens to its
/// path, what is read and written through this value is inside that very folder.
#[derive(Debug)]
pub struct Folder {
    pub(crate) descriptor: OwnedFd,
    path: PathBuf,
    rules: Rules,
}

impl Folder {
    /// Opens a folder. A relative path counts from the current folder.
    ///
    /// # Errors
    /// [`FolderError::Untrusted`] when it breaks a rule, [`FolderError::Failed`] when it is not
    /// there or the file system refuses.
    pub fn open(path: &Path, rules: &Rules) -> Result<Self, FolderError> {
        Self::reach(path, rules, Missing::Refuse)
    }

    /// The same; makes what is missing on the way, closed to everyone else (mode 0700), or as the
    /// umask has it when further users are listed.
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

    /// Opens a folder below this one. No component may be a link, and each must be as good as
    /// this folder.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_below(&self, below: &Path) -> Result<Self, FolderError> {
        self.reach_below(below, Missing::Refuse)
    }

    /// The same; makes what is missing.
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

    /// Where it was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the kernel says about it now.
    ///
    /// # Errors
    /// The file system's.
    pub fn status(&self) -> io::Result<Status> {
        Ok(Status::of(&fstat(&self.descriptor)?))
    }

    /// True when its path still leads to it, and it still is as the rules want it. One system
    /// call: for looking often. False when it was removed, replaced, or opened up to others;
    /// opening it anew says which.
    ///
    /// # Errors
    /// The file system's, other than that nothing is there.
    pub fn is_at_its_path(&self) -> io::Result<bool> {
        let there = match statat(CWD, &self.path, AtFlags::empty()) {
            Ok(stat) => Status::of(&stat),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let is_good = self.rules.check_last(&self.path, &there).is_ok();
        Ok(is_good && there.is_same_file(&self.status()?))
    }

    /// True when the file system takes no changes from here.
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
