//! The status of a file.

use rustix::fs::{FileType, Stat};

use crate::own_user;

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, which is not followed.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

/// The status of a file, from the kernel. Times are seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The file system it is on.
    pub device: u64,
    /// Its inode number, which no other file has while this one is open.
    pub inode: u64,
    /// Its kind.
    pub kind: Kind,
    /// Permission bits, with the set-user, set-group and sticky bits.
    pub mode: u32,
    /// The user who owns it.
    pub owner: u32,
    /// The number of its names (hard links).
    pub links: u64,
    /// Its size in bytes.
    pub size: u64,
    /// The last change of its content.
    pub modified: (i64, i64),
    /// The last change of any kind.
    pub changed: (i64, i64),
}

impl Status {
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_lossless,
        reason = "the types of these fields differ between systems"
    )]
    pub(crate) fn of(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            kind,
            mode: stat.st_mode as u32 & 0o7777,
            owner: stat.st_uid as u32,
            links: stat.st_nlink as u64,
            size: stat.st_size as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// True for a folder of this process's user that others may look into and not write in.
    pub(crate) fn is_only_seen_by_others(&self) -> bool {
        let is_ours = self.kind == Kind::Folder && self.owner == own_user();
        is_ours && self.mode & 0o022 == 0 && self.mode & 0o055 != 0
    }

    /// True if both belong to the same file.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}
