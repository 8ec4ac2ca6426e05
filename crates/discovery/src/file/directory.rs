//! The directory of records, or of policies. Only this module calls the file system.

use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sinew_folder::{Folder, FolderError, Kind, Rules, Status};
use sinew_plane::{clock, random};

use super::observation::Stamp;
use crate::{MAX_INSTANCES, record};

/// Names looked at in one listing: room for as many strays and temporary files as records, so
/// that a directory that is not ours at all cannot hold the thread up.
const MAX_NAMES: usize = 2 * MAX_INSTANCES;

/// Tries for the directory lock, and the pause between two. Whoever holds it writes one small
/// file, so 200 ms of waiting mean that it is stuck, and a stuck holder must not stop the others.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Writes a file that must not exist yet; tests put a full disk in its place.
pub(super) type WriteNew = Box<dyn Fn(&Folder, &str, &[u8]) -> io::Result<()> + Send>;

/// The directory of records of one store.
pub(super) struct Directory {
    root: PathBuf,
    /// The folder below it.
    bucket: &'static str,
    path: PathBuf,
    rules: Rules,
    write_new: WriteNew,
    /// Held by its descriptor from one look to the next.
    open: RefCell<Option<Arc<Folder>>>,
    pub(super) calls: Calls,
}

/// How often the file system was asked: what growth is measured by.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) listings: Cell<u64>,
    pub(super) stamps: Cell<u64>,
    pub(super) reads: Cell<u64>,
    pub(super) touches: Cell<u64>,
}

/// What the directory held at one moment.
pub(super) struct Listing {
    pub(super) files: Vec<Listed>,
    /// False when there were more names than are looked at.
    pub(super) is_complete: bool,
}

/// Which directory it is, and when names in it changed last. The directory is held open, so no
/// other one gets its number meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edition {
    pub(super) directory: (u64, u64),
    pub(super) changed: ((i64, i64), (i64, i64)),
}

/// One file of a listing.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) stamp: Stamp,
    /// Why it must not be read, if so.
    pub(super) fault: Option<Fault>,
}

/// Why a file is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NotFile,
    TooLarge,
    /// Also known under another name, through which somebody else may have put it here.
    Linked,
    WritableByAll,
    /// Of this user, who is not one to trust.
    OfUser(u32),
}

impl Fault {
    fn text(self) -> String {
        match self {
            Self::NotFile => "not a regular file".to_owned(),
            Self::TooLarge => "larger than 65,536 bytes".to_owned(),
            Self::Linked => "a file with several names".to_owned(),
            Self::WritableByAll => "writable by everyone".to_owned(),
            Self::OfUser(user) => format!("of user {user}, who is not one to trust"),
        }
    }

    pub(super) fn into_error(self) -> io::Error {
        io::Error::new(ErrorKind::InvalidData, self.text())
    }
}

impl Directory {
    pub(super) fn of_store(root: &Path, rules: Rules) -> Self {
        Self::with_writer(root, rules, Box::new(write_new))
    }

    /// Another folder of the store, with files of the same rules.
    pub(super) fn of_bucket(root: &Path, bucket: &'static str, rules: Rules) -> Self {
        let records = Self::of_store(root, rules);
        Self { path: records.root.join(bucket), bucket, ..records }
    }

    pub(super) fn with_writer(root: &Path, rules: Rules, write_new: WriteNew) -> Self {
        // So that a later change of the current folder changes nothing.
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let path = root.join(record::BUCKET);
        let (bucket, open) = (record::BUCKET, RefCell::default());
        Self { root, bucket, path, rules, write_new, open, calls: Calls::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the directory anew, and makes it if it is not there.
    pub(super) fn create(&self) -> Result<(), FolderError> {
        let root = Folder::create(&self.root, &self.rules)?;
        let folder = root.create_below(Path::new(self.bucket))?;
        self.open.replace(Some(Arc::new(folder)));
        Ok(())
    }

    /// Sees whether the path still leads to the directory that is held, and opens what it leads to
    /// when it does not, or when the whole way is to be checked again. After an error nothing is
    /// held.
    pub(super) fn check(&self, whole_way: bool) -> Result<Edition, FolderError> {
        let failed = |source| FolderError::Failed { path: self.path.clone(), source };
        let held = self.open.take();
        if let Some(folder) = &held
            && !whole_way
            && folder.is_at_its_path().map_err(failed)?
        {
            let edition = edition_of(&folder.status().map_err(failed)?);
            self.open.replace(held);
            return Ok(edition);
        }
        let opened = self.reopen()?;
        let edition = edition_of(&opened.status().map_err(failed)?);
        // The one that is held keeps its number from being used again.
        let is_same = held.as_ref().and_then(|held| held.status().ok());
        let is_same = is_same.is_some_and(|held| edition_of(&held).directory == edition.directory);
        let kept = held.filter(|_| is_same).unwrap_or_else(|| Arc::new(opened));
        self.open.replace(Some(kept));
        Ok(edition)
    }

    fn reopen(&self) -> Result<Folder, FolderError> {
        Folder::open(&self.root, &self.rules)?.open_below(Path::new(self.bucket))
    }

    /// The directory, for reading; `NotFound` when it is not there.
    fn folder(&self) -> io::Result<Arc<Folder>> {
        if let Some(folder) = &*self.open.borrow() {
            return Ok(Arc::clone(folder));
        }
        let folder = Arc::new(self.reopen()?);
        self.open.replace(Some(Arc::clone(&folder)));
        Ok(folder)
    }

    /// True when the file system takes no changes from here.
    pub(super) fn is_read_only(&self) -> bool {
        self.folder().is_ok_and(|folder| folder.is_read_only())
    }

    /// Everything in the directory that could be a record, by name.
    pub(super) fn list(&self) -> io::Result<Listing> {
        let folder = self.folder()?;
        count(&self.calls.listings);
        let (names, is_complete) = folder.names(MAX_NAMES)?;
        // Dynamo's temporary files, and ours, begin with a dot.
        let names = names.into_iter().filter(|name| !name.starts_with('.'));
        Ok(Listing { files: self.look_at(&folder, names), is_complete })
    }

    /// The same for files whose names are known.
    pub(super) fn list_of(&self, names: Vec<String>) -> io::Result<Listing> {
        let folder = self.folder()?;
        Ok(Listing { files: self.look_at(&folder, names.into_iter()), is_complete: true })
    }

    fn look_at(&self, folder: &Folder, names: impl Iterator<Item = String>) -> Vec<Listed> {
        let mut files = Vec::with_capacity(names.size_hint().1.unwrap_or_default());
        for name in names {
            count(&self.calls.stamps);
            // An error means that the file is gone since.
            let Ok(status) = folder.status_of(&name) else { continue };
            let fault = self.fault_of(&status);
            files.push(Listed { name, stamp: stamp_of(&status), fault });
        }
        files
    }

    /// The stamp of one file; the error kind is `NotFound` when there is none.
    pub(super) fn stamp(&self, name: &str) -> io::Result<Stamp> {
        count(&self.calls.stamps);
        self.folder()?.status_of(name).map(|status| stamp_of(&status))
    }

    /// Reads one file. The error kind is `InvalidData` when it is not one to read.
    pub(super) fn read(&self, name: &str) -> io::Result<(Stamp, Vec<u8>)> {
        let folder = self.folder()?;
        count(&self.calls.reads);
        if let Some(fault) = self.fault_of(&folder.status_of(name)?) {
            return Err(fault.into_error());
        }
        // It may have become something else since.
        let (file, status) = folder.open_file(name)?;
        if let Some(fault) = self.fault_of(&status) {
            return Err(fault.into_error());
        }
        let mut bytes = Vec::new();
        file.take(record::MAX_RECORD_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok((stamp_of(&status), bytes))
    }

    /// Whoever may write a file decides what is in it.
    fn fault_of(&self, status: &Status) -> Option<Fault> {
        const OTHERS_WRITE: u32 = 0o002;
        const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
        let writers =
            if self.rules.owners.are_own() { GROUP_OR_OTHERS_WRITE } else { OTHERS_WRITE };
        if status.kind != Kind::File {
            Some(Fault::NotFile)
        } else if status.size > record::MAX_RECORD_BYTES as u64 {
            Some(Fault::TooLarge)
        } else if !self.rules.owners.include(status.owner) {
            Some(Fault::OfUser(status.owner))
        } else if status.mode & writers != 0 {
            Some(Fault::WritableByAll)
        } else if status.links > 1 {
            Some(Fault::Linked)
        } else {
            None
        }
    }

    /// Makes a file appear whole under a name that must be free, else `AlreadyExists`.
    pub(super) fn publish(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (folder, temporary) = self.temporary(bytes)?;
        let placed = folder.rename_new(&temporary, name);
        placed.inspect_err(|_| drop(folder.remove(&temporary)))
    }

    /// Makes a file appear whole in the place of whatever has the name.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (folder, temporary) = self.temporary(bytes)?;
        let mut placed = folder.rename(&temporary, name);
        if placed.as_ref().is_err_and(|error| error.kind() == ErrorKind::IsADirectory) {
            placed = put_aside(&folder, name).and_then(|()| folder.rename(&temporary, name));
        }
        placed.inspect_err(|_| drop(folder.remove(&temporary)))
    }

    /// Writes a file that nobody looks at. What it is for ends well or removes it.
    fn temporary(&self, bytes: &[u8]) -> io::Result<(Arc<Folder>, String)> {
        let name = format!(".tmp_{:016x}", random::u64());
        let mut folder = self.folder();
        if folder.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.create()?;
            folder = self.folder();
        }
        let mut folder = folder?;
        let mut written = (self.write_new)(&folder, &name, bytes);
        if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            // The directory that is held was removed.
            self.create()?;
            folder = self.folder()?;
            written = (self.write_new)(&folder, &name, bytes);
        }
        match written {
            Ok(()) => Ok((folder, name)),
            Err(error) => {
                let _ = folder.remove(&name);
                Err(error)
            }
        }
    }

    /// Moves the file's times. Writes our wall clock, which stock Dynamo peers compare to theirs.
    pub(super) fn touch(&self, name: &str) -> io::Result<()> {
        count(&self.calls.touches);
        self.folder()?.set_modified(name, clock::time_of_day())
    }

    /// Removes a file; one that is gone already is fine.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        self.folder()?.remove(name)
    }

    /// Keeps other processes that lock from reading and then writing in the same moment, until
    /// dropped. `None` when the lock cannot be had, which stops nobody.
    pub(super) fn lock(&self) -> Option<Locked> {
        let folder = self.folder().ok()?;
        for _ in 0..LOCK_TRIES {
            match folder.try_lock() {
                Ok(true) => return Some(Locked(folder)),
                Ok(false) => std::thread::sleep(LOCK_PAUSE),
                Err(_) => return None,
            }
        }
        tracing::debug!(directory = %self.path.display(), "going on without the lock");
        None
    }
}

/// The lock of the directory, given back when dropped.
pub(super) struct Locked(Arc<Folder>);

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// Takes a folder out of a record's place. One with something in it is kept under a name that
/// nobody reads: it is not ours to empty.
fn put_aside(folder: &Folder, name: &str) -> io::Result<()> {
    if folder.remove_folder(name).is_ok() {
        return Ok(());
    }
    let aside = format!(".aside_{:016x}", random::u64());
    folder.rename(name, &aside)?;
    tracing::warn!(file = %name, %aside, "a folder stood in a record's place: moved aside");
    Ok(())
}

fn write_new(folder: &Folder, name: &str, bytes: &[u8]) -> io::Result<()> {
    // 0644 as Dynamo's, or less where the umask says so.
    let mut file = folder.create_file(name, 0o644)?;
    file.write_all(bytes)?;
    // A record is worth nothing after a crash of the machine, so it need not reach the disk; but
    // some file systems tell only then that there is no room.
    if folder.reserves_room_at_write() { Ok(()) } else { Folder::sync(&file) }
}

fn edition_of(status: &Status) -> Edition {
    Edition { directory: (status.device, status.inode), changed: (status.modified, status.changed) }
}

fn stamp_of(status: &Status) -> Stamp {
    let Status { inode, size, modified, changed, .. } = *status;
    Stamp { inode, size, modified, changed }
}

fn count(calls: &Cell<u64>) {
    calls.set(calls.get() + 1);
}
