//! The rules over real folders. Those about other users give folders away, which only root can:
//! CI runs as root, and they say so where it does not.

mod owners;
mod walk;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::*;

/// A user who is neither root nor whoever runs the tests.
const STRANGER: u32 = 54_321;

/// A folder whose whole way is good, whatever the umask.
fn root() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    set_mode(root.path(), 0o700);
    root
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn folder(root: &TempDir, name: &str, mode: u32) -> PathBuf {
    let path = root.path().join(name);
    fs::create_dir(&path).unwrap();
    set_mode(&path, mode);
    path
}

/// Makes a folder, or a link, another user's. False where that is not allowed.
fn give_away(path: &Path) -> bool {
    if own_user() != 0 {
        eprintln!("not run: giving files away needs root");
        return false;
    }
    std::os::unix::fs::lchown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    true
}

fn why(path: &Path, rules: &Rules) -> Option<Why> {
    match Folder::open(path, rules) {
        Ok(_) => None,
        Err(FolderError::Untrusted { why, .. }) => Some(why),
        Err(error) => panic!("{error}"),
    }
}

fn private(levels: usize) -> Rules {
    Rules { private: levels, ..Rules::default() }
}

fn trusting(users: &[u32]) -> Rules {
    Rules { owners: Owners::Also(users.to_vec()), ..Rules::default() }
}

#[test]
fn what_is_opened_stays_what_it_was_when_its_path_is_swapped() {
    let root = root();
    let path = folder(&root, "sockets", 0o700);
    let opened = Folder::open(&path, &private(1)).unwrap();
    assert!(opened.is_at_its_path().unwrap());
    fs::rename(&path, root.path().join("away")).unwrap();
    assert!(!opened.is_at_its_path().unwrap());
    folder(&root, "sockets", 0o700);
    assert!(!opened.is_at_its_path().unwrap(), "another one");
    drop(opened.create_file("mine", 0o600).unwrap());
    assert!(root.path().join("away/mine").exists() && !path.join("mine").exists());
}

#[test]
fn a_folder_that_is_opened_up_is_noticed() {
    let root = root();
    let path = folder(&root, "records", 0o755);
    let opened = Folder::open(&path, &Rules::default()).unwrap();
    set_mode(&path, 0o777);
    assert!(!opened.is_at_its_path().unwrap());
    assert_eq!(why(&path, &Rules::default()), Some(Why::OpenToOthers(0o777)));
}

#[test]
fn files_are_reached_without_following_links_and_never_replaced_by_chance() {
    let root = root();
    let opened = Folder::open(root.path(), &Rules::default()).unwrap();
    symlink("/etc/passwd", root.path().join("link")).unwrap();
    assert!(opened.open_file("link").is_err());
    assert_eq!(opened.status_of("link").unwrap().kind, Kind::Link);
    drop(opened.create_file("a", 0o600).unwrap());
    drop(opened.create_file("b", 0o600).unwrap());
    let taken = opened.rename_new("a", "b").unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AlreadyExists);
    opened.rename_new("a", "c").unwrap();
    let (mut names, is_complete) = opened.names(10).unwrap();
    names.sort();
    assert!(is_complete && names == ["b", "c", "link"], "{names:?}");
    assert!(!opened.names(1).unwrap().1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_through_the_descriptor_leads_to_the_folder_that_was_opened() {
    let root = root();
    let path = folder(&root, "sockets", 0o700);
    let opened = Folder::open(&path, &private(1)).unwrap();
    fs::rename(&path, root.path().join("away")).unwrap();
    fs::write(opened.path_through_descriptor("here").unwrap(), "").unwrap();
    assert!(root.path().join("away/here").exists());
    assert!(opened.path_through_descriptor("../here").is_none());
}
