//! Discovery through a text file, which the processes of a host write and people may edit.
//!
//! A line is one instance: the key of its record, a space, and the record; the later of two with one
//! key counts. There are no leases: the line of a process that was killed stays until it is removed.

use std::sync::{Arc, mpsc, mpsc::RecvTimeoutError};
use std::{fs, io, path::Path, path::PathBuf, thread, time::Duration};

use sinew_discovery::{Discovery, DiscoveryError, Instance, MAX_INSTANCES, Registration, Snapshot};
use sinew_discovery::{View, Withdraw, record};
use sinew_plane::BoxFuture;
use tokio::sync::{oneshot, watch};

type Outcome = Result<(), DiscoveryError>;
type Change = Box<dyn FnOnce(&mut Vec<String>) + Send>;
type Changes = mpsc::Sender<(Change, oneshot::Sender<io::Result<()>>)>;

/// Follows a file of lines, and writes what it registers there. What may block is left to a thread,
/// which ends when this value and its registrations are dropped.
pub struct LinesDiscovery(Changes, watch::Receiver<Snapshot>);

impl LinesDiscovery {
    /// Reads the file now, if it is there, and then every `period`.
    pub fn open(path: impl Into<PathBuf>, period: Duration) -> Result<Self, DiscoveryError> {
        let (path, (changes, asked)) = (path.into(), mpsc::channel());
        let (published, known) = watch::channel(Snapshot::default());
        let none = || (Box::new(|_: &mut _| {}) as Change, oneshot::channel().0);
        update(&path, &published, none().0).map_err(unavailable)?;
        let next = move || match asked.recv_timeout(period) {
            Err(RecvTimeoutError::Timeout) => Some(none()),
            asked => asked.ok(),
        };
        thread::spawn(move || {
            while let Some((change, done)) = next() {
                // While the file cannot be read, views keep what was known.
                let _ = done.send(update(&path, &published, change));
            }
        });
        Ok(Self(changes, known))
    }
}

impl Discovery for LinesDiscovery {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>> {
        Box::pin(async move {
            let value = record::encode(&instance.clone().into())?;
            let line = format!("{} {}", instance.key(), String::from_utf8_lossy(&value));
            let entry = Entry(self.0.clone(), line.clone());
            // Made before it is announced, so that a caller who gives up takes it back.
            let registration = Registration::new(&instance, Box::new(entry));
            ask(&self.0, Box::new(|lines| lines.push(line))).await?;
            Ok(registration)
        })
    }

    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>> {
        Box::pin(async { Ok(View::new(self.1.clone())) })
    }
}

/// A line that was registered.
struct Entry(Changes, String);

impl Withdraw for Entry {
    fn withdraw(self: Box<Self>) -> BoxFuture<'static, Outcome> {
        let Self(changes, line) = *self;
        Box::pin(ask(&changes, Box::new(move |lines| lines.retain(|one| *one != line))))
    }

    fn abandon(self: Box<Self>) {
        drop(self.withdraw());
    }
}

/// Has the thread make a change, whether or not somebody waits for it.
fn ask(changes: &Changes, change: Change) -> impl Future<Output = Outcome> + Send + use<> {
    let (done, answer) = oneshot::channel();
    let _ = changes.send((change, done));
    async { answer.await.unwrap_or(Err(io::ErrorKind::BrokenPipe.into())).map_err(unavailable) }
}

fn unavailable(cause: io::Error) -> DiscoveryError {
    DiscoveryError::Unavailable { backend: "lines", what: cause.to_string(), source: Some(cause) }
}

/// Changes the lines of the file, of all processes one at a time, and publishes them.
fn update(path: &Path, published: &watch::Sender<Snapshot>, change: Change) -> io::Result<()> {
    let lock = fs::File::create(path.with_extension("lock"))?;
    lock.lock()?;
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let mut lines = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    if !text.lines().eq(&lines) {
        // Renamed, so that nobody finds half of it.
        let next = path.with_extension("next");
        fs::write(&next, lines.iter().flat_map(|line| [line, "\n"]).collect::<String>())?;
        fs::rename(&next, path)?;
    }
    let old = published.borrow().clone();
    let instances = lines.iter().filter_map(|line| instance(line)).take(MAX_INSTANCES);
    let new = Snapshot::new(old.revision() + 1, instances);
    if !old.changes_to(&new).is_empty() {
        published.send_replace(new);
    }
    Ok(())
}

fn instance(line: &str) -> Option<Arc<Instance>> {
    let (key, value) = line.split_once(' ')?;
    let record = record::decode(&record::parse_key(key)?, value.as_bytes()).ok()?;
    Some(Arc::new(record.instance))
}
