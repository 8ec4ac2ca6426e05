//! The Unix domain socket beside a TCP port.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use sinew_plane::Address;
use tokio::net::UnixListener;

/// A listening socket file, removed when dropped.
pub(crate) struct SocketFile {
    path: PathBuf,
}

impl SocketFile {
    /// Listens on a new socket in `dir`, which is made if it is not there. Sockets that dead
    /// processes left behind are removed on the way.
    pub(crate) fn bind(dir: &Path) -> io::Result<(UnixListener, Self)> {
        prepare(dir)?;
        sweep(dir);
        let path = dir.join(format!("{:016x}.sock", fastrand::u64(..)));
        let listener = UnixListener::bind(&path)?;
        Ok((listener, Self { path }))
    }

    pub(crate) fn address(&self) -> Option<Address> {
        Address::new("unix", self.path.to_str()?).ok()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.path);
    }
}

/// Only the owner may reach the sockets: whoever can connect can send requests.
fn prepare(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let metadata = fs::symlink_metadata(dir)?;
    let probe = fs::metadata("/proc/self").map(|own| own.uid()).unwrap_or(metadata.uid());
    let private = metadata.is_dir() && metadata.permissions().mode() & 0o077 == 0;
    if !private || metadata.uid() != probe {
        let message = format!(
            "{} must be a folder of the same user with mode 0700, because whoever can reach the \
             sockets in it can send requests",
            dir.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

/// Removes sockets that nobody listens on. Bounded: a folder of dead workers is cleaned over
/// several starts.
fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().take(256) {
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        let path = entry.path();
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if is_socket && UnixStream::connect(&path).is_err_and(refused) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_of_the_dead_are_swept_and_of_the_living_are_not() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("sockets");
        let (_listener, alive) = SocketFile::bind(&dir).unwrap();
        let dead = dir.join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        assert!(dead.exists());
        let (_second, _file) = SocketFile::bind(&dir).unwrap();
        assert!(!dead.exists() && alive.path.exists());
        let path = alive.path.clone();
        drop(alive);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_others_can_reach_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("open");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let error = prepare(&dir).unwrap_err();
        assert!(error.to_string().contains("0700"), "{error}");
    }
}
