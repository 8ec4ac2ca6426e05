//! The directory of records: the only place that calls the file system.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::OFlags;

use super::sighting::Stamp;
use crate::{MAX_INSTANCES, record};

/// Names looked at in one listing: room for as many strays and temporary files as records, so
/// that a directory that is not ours at all cannot hold the thread up.
const MAX_NAMES: usize = 2 * MAX_INSTANCES;

/// Tries for the directory lock, and the pause between two. Whoever holds it writes one small
/// file, so 200 ms of waiting mean that it is stuck, and a stuck holder must not stop the others.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Writes a file that must not exist yet; tests put a full disk in its place.
pub(super) type WriteNew = Box<dyn Fn(&Path, &[u8]) -> io::Result<()> + Send>;

/// The directory of records of one store.
pub(super) struct Directory {
    path: PathBuf,
    write_new: WriteNew,
    our_uid: u32,
}

/// What the directory held at one moment.
pub(super) struct Listing {
    /// Differs when the directory was removed and made anew.
    pub(super) directory: Identity,
    pub(super) files: Vec<Listed>,
    /// False when there were more names than are looked at.
    pub(super) is_complete: bool,
}

/// Device, inode and time of birth: an inode number is used again soon.
pub(super) type Identity = (u64, u64, Option<SystemTime>);

/// One file of a listing.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) stamp: Stamp,
    /// Why it must not be read, if so.
    pub(super) fault: Option<&'static str>,
}

impl Directory {
    pub(super) fn of_store(root: &Path) -> Self {
        Self::with_writer(root, Box::new(write_new))
    }

    pub(super) fn with_writer(root: &Path, write_new: WriteNew) -> Self {
        let our_uid = rustix::process::geteuid().as_raw();
        Self { path: root.join(record::BUCKET), write_new, our_uid }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)
    }

    /// Everything in the directory that could be a record, by name.
    pub(super) fn list(&self) -> io::Result<Listing> {
        let directory = fs::metadata(&self.path)?;
        let mut listing = Listing {
            directory: (directory.dev(), directory.ino(), directory.created().ok()),
            files: Vec::new(),
            is_complete: true,
        };
        for (count, entry) in fs::read_dir(&self.path)?.enumerate() {
            if count >= MAX_NAMES {
                listing.is_complete = false;
                break;
            }
            let entry = entry?;
            // Dynamo's temporary files, and ours, begin with a dot.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            // Does not follow links. An error means that the file is gone since.
            let Ok(file) = entry.metadata() else { continue };
            let fault = fault_of(&file).or_else(|| distrust(&file, &directory, self.our_uid));
            listing.files.push(Listed { name, stamp: stamp_of(&file), fault });
        }
        Ok(listing)
    }

    /// The stamp of one file; the error kind is `NotFound` when there is none.
    pub(super) fn stamp(&self, name: &str) -> io::Result<Stamp> {
        fs::symlink_metadata(self.path.join(name)).map(|file| stamp_of(&file))
    }

    /// Reads one file. The error kind is `InvalidData` when it is not one to read.
    pub(super) fn read(&self, name: &str) -> io::Result<(Stamp, Vec<u8>)> {
        let path = self.path.join(name);
        if let Some(fault) = fault_of(&fs::symlink_metadata(&path)?) {
            return Err(io::Error::new(ErrorKind::InvalidData, fault));
        }
        // It may have become something else since: neither follow a link nor wait at a pipe.
        let file = open(&path, OpenOptions::new().read(true))?;
        let metadata = file.metadata()?;
        if let Some(fault) = fault_of(&metadata) {
            return Err(io::Error::new(ErrorKind::InvalidData, fault));
        }
        let mut bytes = Vec::new();
        file.take(record::MAX_RECORD_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok((stamp_of(&metadata), bytes))
    }

    /// Makes a file appear whole under a name that must be free, else `AlreadyExists`.
    pub(super) fn publish(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.by_way_of_temporary(bytes, |temporary| {
            let linked = fs::hard_link(temporary, self.path.join(name));
            // The second name; nobody reads it, and a dead writer's stays harmless.
            let _ = fs::remove_file(temporary);
            linked
        })
    }

    /// Makes a file appear whole in the place of whatever has the name.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.by_way_of_temporary(bytes, |temporary| {
            fs::rename(temporary, self.path.join(name))
                .inspect_err(|_| drop(fs::remove_file(temporary)))
        })
    }

    fn by_way_of_temporary(
        &self,
        bytes: &[u8],
        place: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let temporary = self.path.join(format!(".tmp_{:016x}", fastrand::u64(..)));
        let mut written = (self.write_new)(&temporary, bytes);
        if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.create()?;
            written = (self.write_new)(&temporary, bytes);
        }
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        place(&temporary)
    }

    /// Moves the file's times. Writes our wall clock, which stock Dynamo peers compare to theirs.
    pub(super) fn touch(&self, name: &str) -> io::Result<()> {
        let file = open(&self.path.join(name), OpenOptions::new().write(true))?;
        file.set_modified(SystemTime::now())
    }

    /// Removes a file; one that is gone already is fine.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps other processes that lock from reading and then writing in the same moment, until
    /// dropped. `None` when the lock cannot be had, which stops nobody.
    pub(super) fn lock(&self) -> Option<File> {
        let directory = File::open(&self.path).ok()?;
        for _ in 0..LOCK_TRIES {
            match directory.try_lock() {
                Ok(()) => return Some(directory),
                Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(fs::TryLockError::Error(_)) => return None,
            }
        }
        tracing::debug!(directory = %self.path.display(), "going on without the lock");
        None
    }
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    options.custom_flags(flags as i32).open(path)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // 0644 as Dynamo's, or less where the umask says so.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(bytes)?;
    // Some file systems tell only now that the disk is full.
    file.sync_data()
}

fn stamp_of(file: &Metadata) -> Stamp {
    Stamp {
        inode: file.ino(),
        size: file.size(),
        modified: (file.mtime(), file.mtime_nsec()),
        changed: (file.ctime(), file.ctime_nsec()),
    }
}

fn fault_of(file: &Metadata) -> Option<&'static str> {
    if !file.is_file() {
        Some("not a regular file")
    } else if file.len() > record::MAX_RECORD_BYTES as u64 {
        Some("larger than 65,536 bytes")
    } else {
        None
    }
}

/// Whoever may write a directory decides what is in it. Where that is everyone, only files of our
/// own user, of root and of the directory's owner count.
fn distrust(file: &Metadata, directory: &Metadata, our_uid: u32) -> Option<&'static str> {
    let (file, directory) = ((file.mode(), file.uid()), (directory.mode(), directory.uid()));
    distrust_of(file, directory, our_uid)
}

fn distrust_of(
    (file_mode, file_uid): (u32, u32),
    (directory_mode, directory_uid): (u32, u32),
    our_uid: u32,
) -> Option<&'static str> {
    const WORLD_WRITABLE: u32 = 0o002;
    if file_mode & WORLD_WRITABLE != 0 {
        return Some("writable by everyone");
    }
    let is_trusted = [our_uid, 0, directory_uid].contains(&file_uid);
    let is_open = directory_mode & WORLD_WRITABLE != 0;
    (is_open && !is_trusted).then_some("of another user, in a directory that everyone may write")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_files_count() {
        let distrusted = |file, directory| distrust_of(file, directory, 1000).is_some();
        let (shut, open) = ((0o755, 7), (0o1777, 7));
        assert!(!distrusted((0o644, 2000), shut), "the directory's owner let them in");
        assert!(distrusted((0o644, 2000), open));
        for trusted in [1000, 0, 7] {
            assert!(!distrusted((0o644, trusted), open));
        }
        assert!(distrusted((0o666, 1000), shut), "anyone may have rewritten it");
    }

    #[test]
    fn publishing_never_replaces_and_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::of_store(root.path());
        directory.publish("a", b"1").unwrap();
        assert_eq!(directory.publish("a", b"2").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(directory.read("a").unwrap().1, b"1");
        directory.replace("a", b"3").unwrap();
        assert_eq!(directory.read("a").unwrap().1, b"3");
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 1, "no temporary file stays");
        directory.remove("a").unwrap();
        directory.remove("a").unwrap();
    }

    #[test]
    fn links_pipes_directories_and_giants_are_not_read() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::of_store(root.path());
        directory.create().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
        File::create(at("giant")).unwrap().set_len(1 << 30).unwrap();
        let listing = directory.list().unwrap();
        assert_eq!(listing.files.len(), 4);
        for file in listing.files {
            assert!(file.fault.is_some(), "{}", file.name);
            let error = directory.read(&file.name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{}", file.name);
        }
        assert!(directory.touch("link").is_err() && directory.touch("pipe").is_err());
    }

    #[test]
    fn one_holds_the_lock_and_the_next_gets_it_after() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::of_store(root.path());
        directory.create().unwrap();
        let held = directory.lock();
        assert!(held.is_some() && directory.lock().is_none());
        drop(held);
        assert!(directory.lock().is_some());
    }
}
