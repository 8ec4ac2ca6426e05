//! What is refused on the way to a folder, and at its end.

use super::*;

#[test]
fn what_is_made_is_closed_to_others() {
    let root = root();
    let path = root.path().join("sinew-7").join("sockets");
    Folder::create(&path, &private(2)).unwrap();
    assert_eq!(mode_of(&path), 0o700);
    assert_eq!(mode_of(path.parent().unwrap()), 0o700);
    Folder::create(&path, &private(2)).unwrap();
}

#[test]
fn a_missing_folder_is_missing_and_looking_makes_none() {
    let root = root();
    let path = root.path().join("a").join("b");
    let error = Folder::open(&path, &Rules::default()).unwrap_err();
    assert!(error.is_missing() && !error.is_untrusted(), "{error}");
    assert!(!root.path().join("a").exists());
}

#[test]
fn the_folder_of_another_user_is_refused_wherever_it_stands() {
    let root = root();
    let outer = folder(&root, "outer", 0o755);
    let inner = outer.join("inner");
    fs::create_dir(&inner).unwrap();
    set_mode(&inner, 0o700);
    assert_eq!(why(&inner, &private(1)), None);
    if !give_away(&outer) {
        return;
    }
    let expected = Some(Why::OtherOwner(STRANGER));
    for path in [&outer, &inner] {
        assert_eq!(why(path, &Rules::default()), expected, "{path:?}");
        assert_eq!(why(path, &trusting(&[STRANGER + 1])), expected);
        assert_eq!(why(path, &trusting(&[STRANGER])), None, "listed");
    }
    assert_eq!(why(&outer, &Rules { private: 1, ..trusting(&[STRANGER]) }), expected);
    let error = Folder::create(&outer.join("new"), &private(1)).unwrap_err().to_string();
    for needle in ["outer", "54321", &own_user().to_string(), "to trust"] {
        assert!(error.contains(needle), "{needle}: {error}");
    }
    assert!(!outer.join("new").exists(), "nothing is made in it");
}

#[test]
fn a_folder_that_others_may_write_is_refused() {
    let root = root();
    for mode in [0o770, 0o775, 0o777, 0o1777, 0o702] {
        let path = folder(&root, &format!("{mode:o}"), mode);
        assert_eq!(why(&path, &Rules::default()), Some(Why::OpenToOthers(mode)));
        assert_eq!(why(&path, &private(1)), Some(Why::Reachable(mode)));
        let is_replaceable = mode & 0o1002 == 0o002;
        let expected = is_replaceable.then_some(Why::NotSticky(mode));
        assert_eq!(why(&path, &trusting(&[STRANGER])), expected, "{mode:o}");
    }
    for mode in [0o755, 0o750, 0o711] {
        let path = folder(&root, &format!("{mode:o}"), mode);
        assert_eq!(why(&path, &Rules::default()), None);
        assert_eq!(why(&path, &private(1)), Some(Why::Reachable(mode)));
    }
}

#[test]
fn ones_own_folder_is_closed_when_others_could_only_look_into_it() {
    let root = root();
    let closing = Rules { closes: true, ..private(2) };
    let outer = folder(&root, "outer", 0o755);
    let inner = outer.join("inner");
    fs::create_dir(&inner).unwrap();
    set_mode(&inner, 0o750);
    assert_eq!(why(&inner, &private(2)), Some(Why::Reachable(0o755)));
    assert_eq!(why(&inner, &closing), None);
    assert_eq!((mode_of(&outer), mode_of(&inner)), (0o700, 0o700));
    // Here somebody else may have put something.
    for mode in [0o775, 0o757] {
        set_mode(&outer, mode);
        assert_eq!(why(&inner, &closing), Some(Why::Reachable(mode)));
        assert_eq!(mode_of(&outer), mode);
    }
}

#[test]
fn what_everyone_may_replace_must_not_stand_on_the_way() {
    let root = root();
    let open = folder(&root, "open", 0o777);
    let inner = open.join("inner");
    fs::create_dir(&inner).unwrap();
    set_mode(&inner, 0o700);
    assert_eq!(why(&inner, &private(1)), Some(Why::NotSticky(0o777)));
    set_mode(&open, 0o1777);
    assert_eq!(why(&inner, &private(1)), None);
}

#[test]
fn links_are_followed_on_the_way_only_and_those_of_strangers_never() {
    let root = root();
    let target = folder(&root, "target", 0o700);
    let inner = target.join("inner");
    fs::create_dir(&inner).unwrap();
    set_mode(&inner, 0o700);
    for (name, to) in [("absolute", target.as_path()), ("relative", Path::new("target"))] {
        let link = root.path().join(name);
        symlink(to, &link).unwrap();
        assert_eq!(why(&link, &Rules::default()), Some(Why::Link), "{name}");
        assert_eq!(why(&link.join("inner"), &private(1)), None, "{name}");
        assert_eq!(why(&link.join("inner"), &private(2)), Some(Why::Link), "{name}");
    }
    let link = root.path().join("absolute");
    if give_away(&link) {
        assert_eq!(why(&link.join("inner"), &private(1)), Some(Why::LinkOf(STRANGER)));
        assert_eq!(why(&link, &private(1)), Some(Why::LinkOf(STRANGER)));
    }
    let endless = root.path().join("endless");
    symlink(&endless, &endless).unwrap();
    assert!(Folder::open(&endless.join("inner"), &Rules::default()).is_err());
    fs::write(root.path().join("file"), "").unwrap();
    for path in ["file", "file/below"] {
        let error = Folder::open(&root.path().join(path), &Rules::default()).unwrap_err();
        let kind = std::io::Error::from(error).kind();
        assert_eq!(kind, std::io::ErrorKind::NotADirectory, "{path}");
    }
}

#[test]
fn below_an_open_folder_no_link_leads_anywhere() {
    let root = root();
    let elsewhere = folder(&root, "elsewhere", 0o700);
    let store = folder(&root, "store", 0o700);
    let opened = Folder::open(&store, &private(1)).unwrap();
    opened.create_below(Path::new("v1/instances")).unwrap();
    assert_eq!(mode_of(&store.join("v1/instances")), 0o700);
    opened.open_below(Path::new("v1/instances")).unwrap();
    fs::remove_dir_all(store.join("v1")).unwrap();
    symlink(&elsewhere, store.join("v1")).unwrap();
    let error = opened.create_below(Path::new("v1/instances")).unwrap_err();
    assert!(error.is_untrusted(), "{error}");
    assert!(!elsewhere.join("instances").exists());
    fs::remove_file(store.join("v1")).unwrap();
    fs::create_dir(store.join("v1")).unwrap();
    set_mode(&store.join("v1"), 0o755);
    assert!(opened.open_below(Path::new("v1")).unwrap_err().is_untrusted(), "as close as above");
}

#[test]
fn roots_own_rule_is_no_exception() {
    // Root may read everything, and what another user says is no less that user's word.
    let root = root();
    let home = folder(&root, "home", 0o700);
    if give_away(&home) {
        assert_eq!(why(&home, &Rules::default()), Some(Why::OtherOwner(STRANGER)));
        chown(&home, Some(0), Some(0)).unwrap();
        assert_eq!(why(&home, &Rules::default()), None);
    }
}
