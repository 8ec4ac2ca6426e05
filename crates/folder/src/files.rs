//! The files of a folder, accessed through its descriptor.

use std::{
    fs::File,
    io,
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{
        AtFlags, Dir, FlockOperation, Mode, OFlags, RawMode, Timespec, Timestamps, UTIME_OMIT,
        flock, fstat, fsync, linkat, mkdirat, openat, renameat, statat, unlinkat, utimensat,
    },
    io::Errno,
};

use crate::{Folder, Status};

impl Folder {
    /// The names in the folder that are valid text, in no order, at most `limit`. The second value
    /// is false if there are more.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn names(&self, limit: usize) -> io::Result<(Vec<String>, bool)> {
        let mut names = Vec::new();
        for (count, entry) in Dir::read_from(&self.descriptor)?.enumerate() {
            if count >= limit {
                return Ok((names, false));
            }
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok((names, true))
    }

    /// The status of a name. Does not follow links.
    ///
    /// # Errors
    /// `NotFound` if there is no such name, or an error of the file system.
    pub fn status_of(&self, name: &str) -> io::Result<Status> {
        Ok(Status::of(&statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// Opens a file for reading. Returns its status too, because the name may lead to another file
    /// since the last check. Does not follow links, and does not block on a pipe.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn open_file(&self, name: &str) -> io::Result<(File, Status)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Devices do things when they are opened.
        let flags = flags | OFlags::NOCTTY;
        let file = openat(&self.descriptor, name, flags, Mode::empty())?;
        let status = Status::of(&fstat(&file)?);
        Ok((file.into(), status))
    }

    /// Creates a file that must not exist yet.
    ///
    /// # Errors
    /// `AlreadyExists` if it exists, or an error of the file system.
    pub fn create_file(&self, name: &str, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(mode as RawMode);
        Ok(openat(&self.descriptor, name, flags | OFlags::CLOEXEC, mode)?.into())
    }

    /// Renames a file to a name that must be free.
    ///
    /// # Errors
    /// `AlreadyExists` if it is not, or an error of the file system.
    pub fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        match self.rename_exclusively(from, to) {
            // Some file systems can only do it in two steps.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                linkat(&self.descriptor, from, &self.descriptor, to, AtFlags::empty())?;
                self.remove(from)
            }
            result => Ok(result?),
        }
    }

    #[cfg(target_os = "linux")]
    fn rename_exclusively(&self, from: &str, to: &str) -> rustix::io::Result<()> {
        let at = &self.descriptor;
        rustix::fs::renameat_with(at, from, at, to, rustix::fs::RenameFlags::NOREPLACE)
    }

    #[cfg(not(target_os = "linux"))]
    fn rename_exclusively(&self, _from: &str, _to: &str) -> rustix::io::Result<()> {
        Err(Errno::NOSYS)
    }

    /// Renames a file, and replaces the file that has the new name.
    ///
    /// # Errors
    /// `IsADirectory` if a folder has it, or an error of the file system.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.descriptor, from, &self.descriptor, to)?)
    }

    /// Removes a name. A name that does not exist is no error.
    ///
    /// # Errors
    /// `IsADirectory` for a folder, or the file system's.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an empty folder in it.
    ///
    /// # Errors
    /// `DirectoryNotEmpty`, or the file system's.
    pub fn remove_folder(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.descriptor, name, AtFlags::REMOVEDIR)?)
    }

    /// Creates an empty folder that is closed to other users.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn create_folder(&self, name: &str) -> io::Result<()> {
        Ok(mkdirat(&self.descriptor, name, Mode::RWXU)?)
    }

    /// Sets the modification time of a file, without opening it or following a link.
    ///
    /// # Errors
    /// An error of the file system: it is read-only, or the file belongs to another user.
    pub fn set_modified(&self, name: &str, time: SystemTime) -> io::Result<()> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: since.subsec_nanos().into() },
        };
        Ok(utimensat(&self.descriptor, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Tries to take the advisory lock of the folder, which cooperating processes hold while they
    /// change files. True if it is held now; [`unlock`](Self::unlock) releases it.
    ///
    /// # Errors
    /// The file system has no such locks.
    pub fn try_lock(&self) -> io::Result<bool> {
        match flock(self.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Releases the lock.
    pub fn unlock(&self) {
        // It is given back with the descriptor anyway.
        let _ = flock(self.as_fd(), FlockOperation::Unlock);
    }

    /// True if the file system reports a full disk during the write, and not later.
    pub fn reserves_room_at_write(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            /// ext2 to ext4, XFS, Btrfs, tmpfs, overlayfs, ZFS: from statfs(2).
            const LOCAL: [u64; 6] =
                [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1];
            let kind = rustix::fs::fstatfs(&self.descriptor).map(|stat| stat.f_type);
            kind.is_ok_and(|kind| u64::try_from(kind).is_ok_and(|kind| LOCAL.contains(&kind)))
        }
        #[cfg(not(target_os = "linux"))]
        {
            false
        }
    }

    /// Waits until a file is stored.
    ///
    /// # Errors
    /// An error of the file system: some report a full disk only here.
    pub fn sync(file: &File) -> io::Result<()> {
        Ok(fsync(file)?)
    }

    /// A path to a name in this folder, for system calls that take no descriptor. It stays valid if
    /// the folder's own path changes. `None` if the system has no such paths.
    pub fn path_through_descriptor(&self, name: &str) -> Option<std::path::PathBuf> {
        use std::os::fd::AsRawFd as _;
        let number = self.descriptor.as_raw_fd();
        let folder = std::path::PathBuf::from(format!("/proc/self/fd/{number}"));
        let leads_here = rustix::fs::stat(&folder).map(|stat| Status::of(&stat));
        let is_plain = !name.as_bytes().contains(&b'/');
        let is_same = leads_here.ok()?.is_same_file(&self.status().ok()?);
        (is_plain && is_same).then(|| folder.join(std::ffi::OsStr::from_bytes(name.as_bytes())))
    }
}
