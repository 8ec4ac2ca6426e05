//! Opens the path to a folder, one component at a time.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs,
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, fchmod, fstat, mkdirat, openat, readlinkat, statat},
    io::Errno,
};

use crate::{FolderError, Kind, Owners, Status, Why, own_user};

/// Links on one way; the kernel follows as many.
const MAX_LINKS: usize = 40;

/// The rules that a folder must meet to be used.
///
/// Every folder on the path must belong to a trusted user, and a folder that all users may write to
/// needs the sticky bit. Links on the path must belong to a trusted user; the last component must
/// not be a link. Only its owner may write in the folder itself, unless further users are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The trusted users.
    pub owners: Owners,
    /// How many components at the end of the path must belong to this process's user and be closed
    /// to others (mode 0700).
    pub private: usize,
    /// If true, those of them that others may read, and not write, are closed instead of refused,
    /// because no other user can have put a file there.
    pub closes: bool,
}

/// What to do about components that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Refuse,
    Create,
}

/// What one component is to the whole way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    OnTheWay,
    Last,
    Private,
}

impl Rules {
    fn rank(&self, parts_behind: usize) -> Rank {
        if parts_behind < self.private {
            Rank::Private
        } else if parts_behind == 0 {
            Rank::Last
        } else {
            Rank::OnTheWay
        }
    }

    /// Checks the folder at the end of a way.
    pub(crate) fn check_last(&self, path: &Path, status: &Status) -> Result<(), FolderError> {
        self.check(path, status, self.rank(0))
    }

    fn check(&self, path: &Path, status: &Status, rank: Rank) -> Result<(), FolderError> {
        const GROUP_OR_OTHERS: u32 = 0o077;
        const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
        let mode = status.mode;
        let is_owner = match rank {
            Rank::Private => status.owner == own_user(),
            Rank::Last => self.owners.include(status.owner),
            Rank::OnTheWay => self.owners.include(status.owner) || is_outside(status.owner),
        };
        if status.kind != Kind::Folder {
            return Err(FolderError::failed(path, Errno::NOTDIR));
        }
        let why = if !is_owner {
            Why::OtherOwner(status.owner)
        } else if rank == Rank::Private && mode & GROUP_OR_OTHERS != 0 {
            Why::Reachable(mode)
        } else if rank == Rank::Last && self.owners.are_own() && mode & GROUP_OR_OTHERS_WRITE != 0 {
            Why::OpenToOthers(mode)
        } else if is_replaceable(mode) {
            Why::NotSticky(mode)
        } else {
            return Ok(());
        };
        Err(FolderError::untrusted(path, why))
    }
}

/// Everyone may rename or remove what others made in it.
fn is_replaceable(mode: u32) -> bool {
    const WORLD_WRITABLE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    mode & WORLD_WRITABLE != 0 && mode & STICKY == 0
}

/// In a user namespace that does not know all users, what belongs to the outside's root shows as
/// the overflow user's. It stands on every way, so it has to be passed there, and only there.
fn is_outside(owner: u32) -> bool {
    static OVERFLOW: OnceLock<Option<u32>> = OnceLock::new();
    let overflow = OVERFLOW.get_or_init(|| {
        let map = fs::read_to_string("/proc/self/uid_map").ok()?;
        let first: Vec<_> = map.lines().next()?.split_ascii_whitespace().collect();
        let knows_all = first == ["0", "0", "4294967295"];
        let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?;
        overflow.trim().parse().ok().filter(|_| !knows_all)
    });
    *overflow == Some(owner)
}

/// Where the walk stands.
struct Walk {
    at: OwnedFd,
    here: PathBuf,
    parts: VecDeque<OsString>,
    links: usize,
}

/// Opens the folder at the end of `path`, which must be absolute.
pub(crate) fn walk(path: &Path, rules: &Rules, missing: Missing) -> Result<OwnedFd, FolderError> {
    let mut walk = Walk::from_root(path)?;
    let status = Status::of(&fstat(&walk.at).map_err(|error| FolderError::failed(path, error))?);
    rules.check(&walk.here, &status, rules.rank(walk.parts.len()))?;
    while let Some(part) = walk.parts.pop_front() {
        walk.step(part, rules, missing)?;
    }
    // What was opened so far may be good for nothing but going on.
    open(&walk.at, OsStr::new("."), OFlags::RDONLY)
        .map_err(|error| FolderError::failed(&walk.here, error))
}

/// Opens what is below an open folder, without any links.
pub(crate) fn walk_below(
    from: &OwnedFd,
    path: &Path,
    below: &Path,
    rules: &Rules,
    missing: Missing,
) -> Result<OwnedFd, FolderError> {
    let failed = |error| FolderError::failed(path, error);
    let at = open(from, OsStr::new("."), OFlags::RDONLY).map_err(failed)?;
    let mut walk = Walk { at, here: path.to_owned(), parts: parts_of(below), links: MAX_LINKS };
    // What lies below is as close as the folder above it.
    let strict = Rules { private: 0, ..rules.clone() };
    let private = Rules { private: usize::MAX, ..strict.clone() };
    while let Some(part) = walk.parts.pop_front() {
        let rules = if rules.private > 0 { &private } else { &strict };
        walk.step(part, rules, missing)?;
    }
    Ok(walk.at)
}

impl Walk {
    fn from_root(path: &Path) -> Result<Self, FolderError> {
        let here = PathBuf::from("/");
        let at = root().map_err(|error| FolderError::failed(&here, error))?;
        Ok(Self { at, here, parts: parts_of(path), links: 0 })
    }

    fn step(&mut self, part: OsString, rules: &Rules, missing: Missing) -> Result<(), FolderError> {
        let path = self.here.join(&part);
        let failed = |error| FolderError::failed(&path, error);
        let rank = rules.rank(self.parts.len());
        let flags = if rank == Rank::OnTheWay { on_the_way() } else { OFlags::RDONLY };
        let mut opened = open(&self.at, &part, flags);
        if missing == Missing::Create && matches!(opened, Err(Errno::NOENT)) {
            match mkdirat(&self.at, &part, mode_of_new(&rules.owners)) {
                // Somebody was faster: then it is checked like any other.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
            opened = open(&self.at, &part, flags);
        }
        match opened {
            Ok(folder) => {
                let mut status = Status::of(&fstat(&folder).map_err(failed)?);
                if rank == Rank::Private && rules.closes && status.is_only_seen_by_others() {
                    fchmod(&folder, Mode::RWXU).map_err(failed)?;
                    status = Status::of(&fstat(&folder).map_err(failed)?);
                }
                rules.check(&path, &status, rank)?;
                (self.at, self.here) = (folder, path);
                Ok(())
            }
            Err(Errno::NOTDIR | Errno::LOOP) => self.follow(&part, &path, rules, rank),
            Err(error) => Err(failed(error)),
        }
    }

    /// Goes where a link leads, if it is of a user who counts and stands where links may stand.
    fn follow(
        &mut self,
        part: &OsStr,
        path: &Path,
        rules: &Rules,
        rank: Rank,
    ) -> Result<(), FolderError> {
        let failed = |error| FolderError::failed(path, error);
        let status = statat(&self.at, part, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let status = Status::of(&status);
        if status.kind != Kind::Link {
            return Err(failed(Errno::NOTDIR));
        }
        let why = if !rules.owners.include(status.owner) && !is_outside(status.owner) {
            Why::LinkOf(status.owner)
        } else if rank != Rank::OnTheWay {
            Why::Link
        } else if self.links >= MAX_LINKS {
            return Err(failed(Errno::LOOP));
        } else {
            self.links += 1;
            let target = readlinkat(&self.at, part, Vec::new()).map_err(failed)?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                self.here = PathBuf::from("/");
                self.at = root().map_err(failed)?;
            }
            for part in parts_of(&target).into_iter().rev() {
                self.parts.push_front(part);
            }
            return Ok(());
        };
        Err(FolderError::untrusted(path, why))
    }
}

fn parts_of(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

fn root() -> rustix::io::Result<OwnedFd> {
    openat(CWD, "/", on_the_way() | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn open(at: &OwnedFd, part: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, part, flags, Mode::empty())
}

/// A folder on the way may be one that can be passed and not read.
#[cfg(target_os = "linux")]
fn on_the_way() -> OFlags {
    OFlags::PATH
}

#[cfg(not(target_os = "linux"))]
fn on_the_way() -> OFlags {
    OFlags::RDONLY
}

/// Closed to everyone else, unless others are to take part: then as the umask has it.
fn mode_of_new(owners: &Owners) -> Mode {
    if owners.are_own() { Mode::RWXU } else { Mode::RWXU | Mode::RWXG | Mode::RWXO }
}
