//! Where this user's runtime files live.

use std::path::{Path, PathBuf};

use sinew_discovery::FolderRules;

/// Folders at the end of each default path that are this user's alone: the runtime folder, and the
/// one in it.
const OWN_FOLDERS: usize = 2;

/// The folder as the process's environment has it.
pub(crate) fn of_this_process() -> PathBuf {
    let dir = |name| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    from_names(dir("XDG_RUNTIME_DIR").as_deref(), dir("TMPDIR").as_deref())
}

/// Folder for sockets and the default discovery, private to the user: in the user's own runtime
/// folder, else among temporary files.
pub(crate) fn from_names(xdg: Option<&Path>, tmp: Option<&Path>) -> PathBuf {
    if let Some(xdg) = xdg {
        return xdg.join("sinew");
    }
    // Anyone can make a folder of this name first, so it is checked at each use.
    let tmp = tmp.map_or_else(std::env::temp_dir, Path::to_owned);
    tmp.join(format!("sinew-{}", rustix::process::geteuid().as_raw()))
}

/// Where servers put their Unix domain sockets.
pub(crate) fn socket_dir(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("sockets")
}

/// Where instances are announced unless another discovery is named.
pub(crate) fn discovery_dir(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("discovery")
}

/// The rules for a folder of records. Others than the default one were made by a person who may
/// have reasons to let others look.
pub(crate) fn rules_for(folder: &Path, runtime_dir: &Path, rules: &FolderRules) -> FolderRules {
    if folder != discovery_dir(runtime_dir) {
        return rules.clone();
    }
    FolderRules { private: rules.private.max(OWN_FOLDERS), closes: true, ..rules.clone() }
}
