//! When the files of policies are looked at, and when not.

use std::os::unix::fs::PermissionsExt as _;

use sinew_plane::{EndpointName, TransportId, clock};

use super::*;
use crate::{PlanePolicy, file::policies::Policies, policy_board::PolicyBoard};

/// A folder of policies, those who watch it, and a time that passes by hand.
struct Watcher {
    policies: Policies,
    board: Arc<PolicyBoard>,
    path: PathBuf,
    now: Instant,
}

impl Watcher {
    fn at(root: &TempDir) -> Self {
        let (board, config) = (Arc::new(PolicyBoard::default()), FileConfig::default());
        let policies = Policies::new(root.path(), &config, Arc::clone(&board));
        Self { policies, board, path: root.path().join("sinew/policies"), now: clock::now() }
    }

    fn look(&mut self, after: Duration) {
        self.now += after;
        self.policies.look(self.now);
    }
}

fn endpoint(number: usize) -> EndpointName {
    format!("a/b/c{number}").parse().unwrap()
}

fn policy(number: usize) -> PlanePolicy {
    PlanePolicy::new(endpoint(number), TransportId::from_static("unix"))
}

#[test]
fn files_are_looked_at_when_names_change_and_four_times_per_ttl() {
    const MANY: u64 = 50;
    let root = tempfile::tempdir().unwrap();
    let mut watcher = Watcher::at(&root);
    let views: Vec<_> = (0..MANY).map(|n| watcher.board.view(&endpoint(n as usize)).0).collect();
    watcher.look(Duration::ZERO);
    assert!(!watcher.path.exists(), "looking makes no folder");
    assert_eq!(watcher.policies.take_calls(), [0, 0]);
    let stored = watcher.policies.put(policy(7)).unwrap();
    watcher.policies.take_calls();
    // What may be hidden by coarse times.
    watcher.look(Duration::from_millis(200));
    watcher.look(Duration::from_millis(200));
    watcher.policies.take_calls();
    for _ in 0..10 {
        watcher.look(Duration::from_millis(100));
    }
    assert_eq!(watcher.policies.take_calls(), [0, 0], "nothing is due");
    watcher.look(FileConfig::default().ttl / 4);
    assert_eq!(watcher.policies.take_calls(), [MANY, 0]);
    assert_eq!(views[7].borrow().as_deref(), Some(&stored));
    // An endpoint that is watched only now.
    let late = watcher.policies.put(policy(99)).unwrap();
    for _ in 0..3 {
        watcher.look(Duration::from_millis(200));
    }
    watcher.policies.take_calls();
    let view = watcher.board.view(&endpoint(99)).0;
    watcher.look(Duration::from_millis(100));
    assert_eq!(watcher.policies.take_calls(), [1, 1]);
    assert_eq!(view.borrow().as_deref(), Some(&late));
}

#[test]
fn a_folder_that_others_may_write_is_not_read_and_what_is_known_stays() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = Watcher::at(&root);
    let view = watcher.board.view(&endpoint(1)).0;
    let stored = watcher.policies.put(policy(1)).unwrap();
    assert_eq!(view.borrow().as_deref(), Some(&stored));
    let file = watcher.path.join("a%2Fb%2Fc1");
    let other = String::from_utf8(fs::read(&file).unwrap()).unwrap().replace("unix", "tcp");
    for (shut, folder) in [watcher.path.clone(), root.path().join("sinew")].into_iter().enumerate()
    {
        let set_mode =
            |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        let known = view.borrow().clone();
        set_mode(0o777);
        fs::write(&file, other.replace(":100,", &format!(":{},", 10 + shut))).unwrap();
        for _ in 0..4 {
            watcher.look(FileConfig::default().ttl / 4);
            assert_eq!(*view.borrow(), known);
        }
        set_mode(0o700);
        watcher.look(FileConfig::default().ttl / 4);
        let shown = view.borrow().clone().unwrap();
        assert_eq!(usize::from(shown.percent), 10 + shut);
    }
}
