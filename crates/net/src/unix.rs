//! The Unix domain socket of a server, beside its TCP port.
//!
//! A process that can connect can send requests, and a process that can put a socket into the
//! folder receives them. So [`sinew_folder`] opens and checks the folder, the socket is made
//! through the open descriptor, and both ends ask the kernel for the user of the other end.

use std::{
    io,
    os::unix::net::UnixStream as StdStream,
    path::{Path, PathBuf},
    sync::Weak,
    time::Duration,
};

use sinew_folder::{Folder, Kind, Owners, Rules, Status};
use sinew_plane::{Address, random};
use tokio::net::{UnixListener, UnixStream};

/// Longest path that the address of a Unix socket takes, in bytes, without its final zero.
const MAX_PATH_BYTES: usize = 107;

/// Sockets looked at when one is bound: a folder of dead workers is cleaned over several starts.
const SWEPT: usize = 256;

/// A listening socket file, removed when dropped.
#[derive(Debug)]
pub struct SocketFile {
    folder: Folder,
    name: String,
    path: PathBuf,
    /// What was made.
    made: Status,
}

impl SocketFile {
    /// Listens on a new socket in `dir`, which is created if it does not exist. Removes sockets of
    /// processes that have ended.
    ///
    /// # Errors
    /// The folder is not private to this user, the path is too long for a socket address, or the
    /// system refuses.
    pub fn bind(dir: &Path) -> io::Result<(UnixListener, Self)> {
        // The folder that is named, and the one above it: in the default place that one is ours.
        let folder = Folder::create(dir, &rules())?;
        sweep(&folder);
        let name = format!("{:016x}.sock", random::u64());
        let path = folder.path().join(&name);
        if path.as_os_str().len() > MAX_PATH_BYTES {
            let message =
                format!("the path of a socket has {MAX_PATH_BYTES} bytes at most: {path:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        // Where the system has no such path, the checked one is as good as it gets.
        let through = folder.path_through_descriptor(&name).unwrap_or_else(|| path.clone());
        let listener = UnixListener::bind(through)?;
        let made = folder.status_of(&name)?;
        Ok((listener, Self { folder, name, path, made }))
    }

    /// The address for callers on this host: `unix://` with the path; `None` if an address cannot
    /// hold the path.
    pub fn address(&self) -> Option<Address> {
        Address::new("unix", self.path.to_str()?).ok()
    }

    /// True if the announced path leads to the socket that was made.
    pub fn is_in_place(&self) -> bool {
        let is_there = || self.folder.status_of(&self.name);
        self.folder.is_at_its_path().unwrap_or(true)
            && is_there().is_ok_and(|there| there.is_same_file(&self.made))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good; another's is not ours to remove.
        if self.folder.status_of(&self.name).is_ok_and(|there| there.is_same_file(&self.made)) {
            let _ = self.folder.remove(&self.name);
        }
    }
}

/// Between two looks at whether the socket is where it was advertised: five system calls.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Logs a warning if the announced path leads to another file. Callers check the user of the
/// listener and then use TCP. Ends with the socket.
pub async fn watch_socket_file(file: Weak<SocketFile>) {
    let mut was_in_place = true;
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let Some(file) = file.upgrade() else { return };
        let is_in_place = file.is_in_place();
        let path = file.path.display();
        match (was_in_place, is_in_place) {
            (true, false) => tracing::error!(
                socket = %path,
                "the socket, or the folder it is in, was removed or exchanged: callers on this \
                 host come over TCP; see who can write there"
            ),
            (false, true) => tracing::info!(socket = %path, "the socket is in its place again"),
            _ => {}
        }
        was_in_place = is_in_place;
    }
}

/// Only the owner may reach the sockets.
fn rules() -> Rules {
    Rules { private: 1, ..Rules::default() }
}

/// Removes sockets that nobody listens on.
fn sweep(folder: &Folder) {
    let Ok((names, _)) = folder.names(SWEPT) else { return };
    for name in names {
        let is_socket = folder.status_of(&name).is_ok_and(|status| status.kind == Kind::Other);
        let path = folder.path_through_descriptor(&name).unwrap_or(folder.path().join(&name));
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if is_socket && StdStream::connect(path).is_err_and(refused) {
            let _ = folder.remove(&name);
        }
    }
}

/// Connects to a socket, and checks that a process of this user or of root listens there.
///
/// # Errors
/// No process listens there, or one of another user.
pub async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    check_unix_peer(&stream)?;
    Ok(stream)
}

/// Checks that the peer belongs to this user or to root. The kernel reports the user: to the
/// listener the one that connected, and to the connecting process the one that listens.
///
/// # Errors
/// The peer belongs to another user.
pub fn check_unix_peer(stream: &UnixStream) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    if Owners::Own.include(user) {
        return Ok(());
    }
    let own = sinew_folder::own_user();
    let message = format!(
        "the process at the other end runs as user {user}, and this one as user {own}: it is not \
         spoken to over a Unix socket"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn dir(root: &tempfile::TempDir) -> PathBuf {
        root.path().join("sockets")
    }

    #[tokio::test]
    async fn sockets_of_the_dead_are_swept_and_of_the_living_are_not() {
        let root = tempfile::tempdir().unwrap();
        let (_listener, alive) = SocketFile::bind(&dir(&root)).unwrap();
        let dead = dir(&root).join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        assert!(dead.exists());
        let (_second, _file) = SocketFile::bind(&dir(&root)).unwrap();
        assert!(!dead.exists() && alive.path.exists());
        let path = alive.path.clone();
        drop(alive);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_folder_that_others_can_reach_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(dir(&root)).unwrap();
        for mode in [0o755, 0o770, 0o701, 0o777] {
            fs::set_permissions(dir(&root), fs::Permissions::from_mode(mode)).unwrap();
            let error = SocketFile::bind(&dir(&root)).map(drop).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            let text = error.to_string();
            assert!(text.contains("0700") && text.contains("sockets"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_link_in_the_folders_place_is_refused_whoever_made_it() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = root.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir(&root)).unwrap();
        let error = SocketFile::bind(&dir(&root)).map(drop).unwrap_err();
        assert!(error.to_string().contains("link"), "{error}");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing was made there");
    }

    #[tokio::test]
    async fn the_folder_of_another_user_is_refused() {
        if sinew_folder::own_user() != 0 {
            eprintln!("not run: giving files away needs root");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(dir(&root)).unwrap();
        fs::set_permissions(dir(&root), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(dir(&root), Some(54_321), None).unwrap();
        let error = SocketFile::bind(&dir(&root)).map(drop).unwrap_err();
        assert!(error.to_string().contains("54321"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_swapped_under_a_listener_is_noticed_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let (_listener, file) = SocketFile::bind(&dir(&root)).unwrap();
        assert!(file.is_in_place());
        fs::rename(dir(&root), root.path().join("away")).unwrap();
        assert!(!file.is_in_place());
        fs::create_dir(dir(&root)).unwrap();
        let forged = std::os::unix::net::UnixListener::bind(&file.path).unwrap();
        assert!(!file.is_in_place());
        let path = file.path.clone();
        drop(file);
        assert!(path.exists(), "another's socket is not ours to remove");
        assert_eq!(fs::read_dir(root.path().join("away")).unwrap().count(), 0);
        drop(forged);
    }

    #[tokio::test]
    async fn a_socket_that_is_replaced_in_its_folder_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let (_listener, file) = SocketFile::bind(&dir(&root)).unwrap();
        fs::remove_file(&file.path).unwrap();
        assert!(!file.is_in_place());
        let _other = std::os::unix::net::UnixListener::bind(&file.path).unwrap();
        assert!(!file.is_in_place());
    }

    #[tokio::test]
    async fn ones_own_processes_are_spoken_to() {
        let root = tempfile::tempdir().unwrap();
        let (listener, file) = SocketFile::bind(&dir(&root)).unwrap();
        let (dialled, accepted) = tokio::join!(connect_unix(&file.path), listener.accept());
        assert!(check_unix_peer(&dialled.unwrap()).is_ok());
        assert!(check_unix_peer(&accepted.unwrap().0).is_ok());
    }

    #[tokio::test]
    async fn a_path_that_no_address_takes_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let long = root.path().join("a".repeat(100));
        let error = SocketFile::bind(&long).map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
}
