//! Where this user's runtime files live.

use std::path::{Path, PathBuf};

/// The folder as the process's environment has it.
pub(crate) fn of_this_process() -> PathBuf {
    let dir = |name| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    runtime_dir(dir("XDG_RUNTIME_DIR").as_deref(), dir("TMPDIR").as_deref())
}

/// Folder for sockets and the default discovery, private to the user: in the user's own runtime
/// folder, else among temporary files.
pub(crate) fn runtime_dir(xdg: Option<&Path>, tmp: Option<&Path>) -> PathBuf {
    if let Some(xdg) = xdg {
        return xdg.join("sinew");
    }
    let tmp = tmp.map_or_else(std::env::temp_dir, Path::to_owned);
    tmp.join(format!("sinew-{}", rustix::process::getuid().as_raw()))
}

/// Where servers put their Unix domain sockets.
pub(crate) fn socket_dir(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("sockets")
}

/// Where instances are announced unless another discovery is named.
pub(crate) fn discovery_dir(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("discovery")
}
