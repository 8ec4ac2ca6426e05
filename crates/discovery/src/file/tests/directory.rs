//! What is read, written and refused in the directory.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use super::*;
use crate::file::directory::Fault;

fn directory(root: &TempDir) -> Directory {
    let directory = Directory::of_store(root.path(), FolderRules::default());
    directory.create().unwrap();
    directory
}

fn fault_of(directory: &Directory, name: &str) -> Option<Fault> {
    let listing = directory.list().unwrap();
    let mut files = listing.files.into_iter();
    files.find(|file| file.name == name).expect("it is listed").fault
}

#[test]
fn publishing_never_replaces_and_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let directory = directory(&root);
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
    let directory = directory(&root);
    let at = |name: &str| directory.path().join(name);
    symlink("/etc/passwd", at("link")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    let pipe = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), pipe, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    File::create(at("giant")).unwrap().set_len(1 << 30).unwrap();
    fs::write(at("one"), "").unwrap();
    fs::hard_link(at("one"), at("other")).unwrap();
    let listing = directory.list().unwrap();
    assert_eq!(listing.files.len(), 7);
    for file in listing.files {
        assert!(file.fault.is_some(), "{}", file.name);
        let error = directory.read(&file.name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{}", file.name);
    }
    fs::remove_file(at("other")).unwrap();
    assert_eq!(fault_of(&directory, "one"), None, "under one name it counts");
}

#[test]
fn records_of_other_users_and_those_that_others_may_write_do_not_count() {
    let root = tempfile::tempdir().unwrap();
    let directory = directory(&root);
    let path = directory.path().join("a");
    fs::write(&path, "{}").unwrap();
    for (mode, expected) in [
        (0o644, None),
        (0o600, None),
        (0o664, Some(Fault::WritableByAll)),
        (0o666, Some(Fault::WritableByAll)),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(fault_of(&directory, "a"), expected, "{mode:o}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    if sinew_folder::own_user() != 0 {
        return;
    }
    chown(&path, Some(54_321), None).unwrap();
    assert_eq!(fault_of(&directory, "a"), Some(Fault::OfUser(54_321)));
    let error = directory.read("a").unwrap_err().to_string();
    assert!(error.contains("54321"), "{error}");
    let rules = FolderRules { owners: "54321".parse().unwrap(), ..FolderRules::default() };
    let trusting = Directory::of_store(root.path(), rules);
    assert_eq!(fault_of(&trusting, "a"), None);
}

#[test]
fn one_holds_the_lock_and_the_next_gets_it_after() {
    let root = tempfile::tempdir().unwrap();
    let (one, other) = (directory(&root), directory(&root));
    let held = one.lock();
    assert!(held.is_some() && other.lock().is_none());
    drop(held);
    assert!(other.lock().is_some());
}

#[test]
fn a_directory_that_is_swapped_is_left_and_one_that_cannot_be_trusted_is_not_entered() {
    let root = tempfile::tempdir().unwrap();
    let directory = directory(&root);
    let first = directory.check(false).unwrap();
    fs::rename(directory.path(), root.path().join("away")).unwrap();
    assert!(directory.check(false).unwrap_err().is_missing());
    fs::create_dir(directory.path()).unwrap();
    let second = directory.check(false).unwrap();
    assert_ne!(first.directory, second.directory);
    fs::write(directory.path().join("a"), "{}").unwrap();
    for (mode, is_trusted) in [(0o777, false), (0o1777, false), (0o775, false), (0o755, true)] {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(directory.check(false).is_ok(), is_trusted, "{mode:o}");
        assert_eq!(directory.read("a").is_ok(), is_trusted, "{mode:o}");
    }
    // The way to it counts, too.
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = directory.check(true).unwrap_err();
    assert!(
        error.is_untrusted() && error.to_string().contains("sticky")
            || error.to_string().contains("write"),
        "{error}"
    );
}
