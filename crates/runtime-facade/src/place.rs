//! Where this user's runtime files live.

use std::path::PathBuf;

/// Folder for sockets and the default discovery: private to the user.
fn runtime_dir() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir).join("sinew"),
        _ => std::env::temp_dir().join(format!("sinew-{}", rustix::process::getuid().as_raw())),
    }
}

/// Where servers put their Unix domain sockets.
pub(crate) fn socket_dir() -> PathBuf {
    runtime_dir().join("sockets")
}

/// Where instances are announced unless another discovery is named.
pub(crate) fn discovery_dir() -> PathBuf {
    runtime_dir().join("discovery")
}
