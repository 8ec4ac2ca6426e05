//! Discovery through a directory: each instance is a file that its owner touches.

mod claim;
mod claims;
mod config;
mod directory;
mod edition;
mod entry;
mod observation;
mod owners;
mod policies;
mod scan;
mod stall;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    fmt,
    future::poll_fn,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc},
    task::Poll,
    thread::{self, JoinHandle},
    time::Duration,
};

use sinew_plane::{BoxFuture, EndpointName};
use tokio::sync::{mpsc, oneshot};

pub use self::config::FileConfig;
use self::{
    claims::{RegistrationHandle, Request},
    directory::Directory,
    policies::Policies,
    worker::{Command, JOIN_PATIENCE, Trouble, Worker},
};
use crate::{
    Discovery, DiscoveryError, Instance, PlanePolicy, PolicyView, Registration, View, Withdraw,
    policy_board::PolicyBoard,
    process,
    record::{self, Record},
};

const BACKEND: &str = "file";

/// Commands under way to the thread: a burst of registrations at start-up. Senders wait beyond it.
const COMMANDS: usize = 64;

/// Longest wait for the thread to take everything back: it is at most one look away from that
/// unless the file system hangs.
const STOP_LIMIT: Duration = Duration::from_secs(4);

/// Longest file name that file systems take, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Discovery through a directory that all peers see, in the layout of Dynamo's file store:
/// `root/v1/instances/<percent-encoded key>`, each file one [record](crate::record). Stock Dynamo
/// peers and Sinew processes can share one. Clones are handles of the same backend.
///
/// **Announcing.** A record appears complete (written under another name, then renamed). All
/// records of a process are touched together, every `max(ttl/3, 1 s)`. A record that is removed or
/// replaced, also by a folder, or whose directory is removed, is written again at the next scan; a
/// record that is truncated or overwritten, with the next touch. [`register`](Discovery::register)
/// returns at once, unless another process has a record with the key and it is not known whether
/// its owner runs. Finding that out takes up to one TTL, and the call fails after two. A process
/// that was stopped for long and finds another process's record in the place of its own logs an
/// error, and waits until that record is removed.
///
/// **Looking.** A view makes no folder and writes nothing. The directory's own times show when
/// names in it change, which costs two system calls per scan. All files are checked when names have
/// changed, and four times per TTL for touches.
///
/// **Liveness.** Only the monotonic clock of the watching process is used; file times are never
/// compared with the current time. An entry is alive while its times, size or inode *change* at
/// least once per TTL, and is removed up to a quarter of the TTL later; the first scan that finds
/// it counts as a change. So a file that a crashed machine has left is shown for one TTL to a
/// watcher that starts later. If a record was written on [the same host](crate::host_id), the
/// kernel is also asked whether its process still runs (process id and start time). A killed worker
/// is removed at the next scan, and this is the only case in which a process removes the file of
/// another one; a worker that runs stays, even if its record does not change.
///
/// **Policies.** A [`PlanePolicy`] is a file below `root/sinew/policies`, which is read at the next
/// scan after it has changed. One whose time is over stays there until it is replaced or removed.
///
/// **Faults.** If a file ceases to be a valid record (half-written, not trusted, of another
/// instance), its last good content is shown for up to one TTL. While the whole directory is
/// missing or cannot be read, the view stays as it is. If no record changes for a whole TTL, and
/// the file system is read-only or several owners on different machines stop at the same time, the
/// watcher assumes that it cannot see changes: the view stays, and [`trouble`](Discovery::trouble)
/// and the log report it. A full disk makes a registration fail, and does not lose existing ones: a
/// touch needs no room, and a write is tried until it succeeds.
///
/// **Trust.** A user who can write to the directory decides where requests go. So every folder on
/// the path must belong to this user or to root, and only its owner may write to it; a parent
/// folder that all users may write to (`/tmp`) needs the sticky bit. Links of other users are not
/// followed, and the root, its folders and the records must not be links. All this is checked
/// through open descriptors, whenever the path leads to another folder than before, and four times
/// per TTL. A record is used if it is a regular file of this user or of root, has one name, and no
/// other user may write to it. [`FileConfig::trust`] lists further users who may share a
/// directory. A directory that is not trusted fails the first call with
/// [`DiscoveryError::Untrusted`], and counts as an outage later.
///
/// All file system calls are made by one thread, which ends with
/// [`shutdown`](Discovery::shutdown), or when the last handle and the last registration are
/// dropped; views then end too. Works without any async runtime.
///
/// # Shortcomings
/// Network file systems cache file times (NFS: 3 to 60 s): mount with `actimeo=1` or raise
/// [`FileConfig::ttl`]. Stock Dynamo peers compare file times with their own clock and remove
/// records that look old to them. The owner writes the record again, but it comes and goes until
/// the clocks agree. Names so long that the encoded key exceeds 255 bytes are refused.
#[derive(Clone)]
pub struct FileDiscovery {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
    trouble: Trouble,
    policies: Arc<PolicyBoard>,
    /// Disconnects when the thread has ended.
    ended: Mutex<std_mpsc::Receiver<()>>,
}

impl FileDiscovery {
    /// Opens a store below `root` with the default settings. Accesses no file yet.
    ///
    /// # Errors
    /// [`DiscoveryError::Unavailable`] when no thread can be started.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, DiscoveryError> {
        Self::with_config(root, FileConfig::default())
    }

    /// Opens a store below `root`. Accesses no file yet.
    ///
    /// # Errors
    /// [`DiscoveryError::Invalid`] when a value of `config` is out of its bounds,
    /// [`DiscoveryError::Unavailable`] when no thread can be started.
    pub fn with_config(root: impl AsRef<Path>, config: FileConfig) -> Result<Self, DiscoveryError> {
        config.check()?;
        let directory = Directory::of_store(root.as_ref(), config.trust.clone());
        Self::start(root.as_ref().to_owned(), directory, config)
    }

    fn start(
        root: PathBuf,
        directory: Directory,
        config: FileConfig,
    ) -> Result<Self, DiscoveryError> {
        let (commands, received) = mpsc::channel(COMMANDS);
        let (alive, ended) = std_mpsc::channel();
        let trouble = Trouble::default();
        let board = Arc::new(PolicyBoard::default());
        let policies = Policies::new(&root, &config, Arc::clone(&board));
        let worker = Worker::new(config, directory, policies, received, Arc::clone(&trouble));
        let thread = thread::Builder::new().name("sinew-discovery".to_owned()).spawn(move || {
            worker.run();
            drop(alive);
        });
        let thread = thread.map_err(|error| DiscoveryError::Unavailable {
            backend: BACKEND,
            what: format!("starting its thread: {error}"),
            source: Some(error),
        })?;
        let ended = Mutex::new(ended);
        let thread = Some(thread);
        let shared = Shared { root, commands, thread, trouble, policies: board, ended };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The root of the store.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    async fn end(&self) {
        let (answer, done) = oneshot::channel();
        let mut stopping = pin!(async {
            if self.shared.send(Command::Stop { answer }).await.is_ok() {
                // An error is the expected end: the answer is dropped last of all.
                let _ = done.await;
            }
        });
        let (mut limit, _running) = alarm(STOP_LIMIT);
        poll_fn(|context| {
            if stopping.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            Pin::new(&mut limit).poll(context).map(|_| {
                let root = self.shared.root.display();
                tracing::warn!(%root, "not waiting for a file system that hangs");
            })
        })
        .await;
    }

    async fn register_one(&self, instance: Instance) -> Result<Registration, DiscoveryError> {
        let key = instance.key();
        let name = record::file_name(&record::key(&key));
        if name.len() > MAX_NAME_BYTES {
            let size = name.len();
            let reason = format!("{key} makes a file name of {size} bytes: {MAX_NAME_BYTES} fit");
            return Err(DiscoveryError::Invalid { reason });
        }
        let owner = process::owner_of(&instance);
        let record = Record { instance: instance.clone(), owner };
        let bytes = record::encode(&record)?;
        let request = |answer| Box::new(Request { key, name, record, bytes, answer });
        let hold = self.shared.ask(|answer| Command::Register(request(answer))).await??;
        let entry = Entry { hold, shared: Arc::clone(&self.shared) };
        Ok(Registration::new(&instance, Box::new(entry)))
    }
}

impl Discovery for FileDiscovery {
    fn name(&self) -> &'static str {
        BACKEND
    }

    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>> {
        Box::pin(self.register_one(instance))
    }

    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>> {
        Box::pin(async move { self.shared.ask(|answer| Command::Watch { answer }).await? })
    }

    fn put_policy(
        &self,
        policy: PlanePolicy,
    ) -> BoxFuture<'_, Result<PlanePolicy, DiscoveryError>> {
        let policy = Box::new(policy);
        Box::pin(
            async move { self.shared.ask(|answer| Command::PutPolicy { policy, answer }).await? },
        )
    }

    fn remove_policy(
        &self,
        endpoint: &EndpointName,
    ) -> BoxFuture<'_, Result<bool, DiscoveryError>> {
        let endpoint = endpoint.clone();
        Box::pin(async move {
            self.shared.ask(|answer| Command::RemovePolicy { endpoint, answer }).await?
        })
    }

    fn watch_policy(&self, endpoint: &EndpointName) -> Result<Option<PolicyView>, DiscoveryError> {
        if self.shared.commands.is_closed() {
            return Err(self.shared.has_ended());
        }
        policies::file_name(endpoint)?;
        let (view, _) = self.shared.policies.view(endpoint);
        // Also when the endpoint is on the board: the thread may have gone to sleep for good since
        // the last view of it was dropped.
        self.shared.wake();
        Ok(Some(view))
    }

    fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Not needed when everything is dropped anyway; it is for who wants to await the end.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

/// Ends after `limit`, by a thread of its own, because there may be no async runtime to count the
/// time. The thread ends with the sender.
fn alarm(limit: Duration) -> (oneshot::Receiver<()>, std_mpsc::Sender<()>) {
    let (ring, rung) = oneshot::channel();
    let (running, ended) = std_mpsc::channel::<()>();
    let timer = thread::Builder::new().name("sinew-discovery".to_owned());
    // Without a thread it rings at once: `ring` goes with the closure.
    let _ = timer.spawn(move || {
        let _ = ended.recv_timeout(limit);
        drop(ring);
    });
    (rung, running)
}

impl fmt::Debug for FileDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileDiscovery({})", self.shared.root.display())
    }
}

impl Shared {
    async fn send(&self, command: Command) -> Result<(), DiscoveryError> {
        self.commands.send(command).await.map_err(|_| self.has_ended())?;
        self.wake();
        Ok(())
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, DiscoveryError> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer)).await?;
        answered.await.map_err(|_| self.has_ended())
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    fn has_ended(&self) -> DiscoveryError {
        let what = format!("the store at {} was shut down", self.root.display());
        DiscoveryError::Unavailable { backend: BACKEND, what, source: None }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // The thread ends when nobody can send to it any more.
        drop(std::mem::replace(&mut self.commands, mpsc::channel(1).0));
        thread.thread().unpark();
        let ended = self.ended.get_mut().map(|ended| ended.recv_timeout(JOIN_PATIENCE));
        if matches!(ended, Ok(Err(std_mpsc::RecvTimeoutError::Timeout))) {
            tracing::warn!(root = %self.root.display(), "not waiting for a file system that hangs");
        } else if thread.join().is_err() {
            tracing::error!(root = %self.root.display(), "its thread has panicked");
        }
    }
}

/// What a registration takes back.
struct Entry {
    hold: RegistrationHandle,
    shared: Arc<Shared>,
}

impl Withdraw for Entry {
    fn withdraw(self: Box<Self>) -> BoxFuture<'static, Result<(), DiscoveryError>> {
        Box::pin(async move {
            let token = self.hold.token;
            let withdrawn = self.shared.ask(|answer| Command::Withdraw { token, answer }).await;
            match withdrawn {
                Ok(result) => result,
                // A store that was shut down has taken everything back.
                Err(_) => Ok(()),
            }
        })
    }

    fn abandon(self: Box<Self>) {
        let Self { hold, shared } = *self;
        // In this order: the thread must find the claim dropped when it wakes.
        drop(hold);
        shared.wake();
    }
}
