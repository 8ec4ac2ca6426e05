//! The folder for this user's runtime files.

use std::path::{Path, PathBuf};

use sinew_discovery::FolderRules;

/// How many folders at the end of each default path are private to this user: the runtime folder,
/// and the one in it.
const OWN_FOLDERS: usize = 2;

/// The folder that the environment of the process names.
pub(crate) fn of_this_process() -> PathBuf {
    let dir = |name| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    from_names(dir("XDG_RUNTIME_DIR").as_deref(), dir("TMPDIR").as_deref())
}

/// Folder for sockets and the default discovery, private to the user: in the user's own runtime
/// folder, else in the folder for temporary files.
pub(crate) fn from_names(xdg: Option<&Path>, tmp: Option<&Path>) -> PathBuf {
    if let Some(xdg) = xdg {
        return xdg.join("sinew");
    }
    // Anyone can make a folder of this name first, so it is checked at each use.
    let tmp = tmp.map_or_else(std::env::temp_dir, Path::to_owned);
    tmp.join(format!("sinew-{}", rustix::process::geteuid().as_raw()))
}

/// The folder in which servers put their Unix domain sockets.
pub(crate) fn socket_dir(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("sockets")
}

/// The folder in which instances are announced unless the settings name another discovery.
pub(crate) fn discovery_dir(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("discovery")
}

/// The permission rules for a folder of records. A folder other than the default one was made by a
/// person, who may want other users to read it.
pub(crate) fn rules_for(folder: &Path, runtime_dir: &Path, rules: &FolderRules) -> FolderRules {
    if folder != discovery_dir(runtime_dir) {
        return rules.clone();
    }
    FolderRules { private: rules.private.max(OWN_FOLDERS), closes: true, ..rules.clone() }
}
