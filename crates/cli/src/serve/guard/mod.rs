//! Programs end with their worker, however it ends: a second process sees to it.
//!
//! A worker that is killed with SIGKILL cannot end its programs. So it starts a guard beside
//! itself, which holds the other end of a pipe. When the pipe closes, because the worker has
//! ended in whatever way, the guard ends what is left: the process groups of the programs that
//! ran, and every process that carries the worker's mark in its environment, as programs and all
//! that they start do, in whatever group or session. A program costs one write of a few bytes
//! when it starts and one when it ends.

mod sweep;

use std::{
    collections::HashSet,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::Pid;
use tokio::{
    process::{Child, Command},
    sync::Notify,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub(crate) use self::sweep::{GuardArgs, run};
use super::{environment::WORKER_VARIABLE, orphans::Children};

/// Pause before a guard that has ended is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// What the guard's end may take behind the programs' own time to end.
const CLOSE_MARGIN: Duration = Duration::from_secs(1);

/// Longest time between SIGTERM and SIGKILL for programs whose worker is gone: what they write
/// reaches nobody any more.
const LONGEST_GRACE: Duration = Duration::from_secs(1);

/// The worker's hold on its guard. Clones share it.
#[derive(Clone)]
pub(crate) struct Guard(Arc<Shared>);

struct Shared {
    /// The worker's mark, in the environment of all its programs.
    mark: String,
    grace: Duration,
    /// Where it has to be told from orphans.
    children: Option<Arc<Children>>,
    state: Mutex<State>,
    closing: CancellationToken,
    /// The guard does not take what it is told.
    failed: Notify,
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
}

#[derive(Default)]
struct State {
    /// To the guard. Never closed while the worker serves and that guard lives: it would take it
    /// for the worker's end.
    pipe: Option<OwnedFd>,
    /// The guard lacks something that it was to be told.
    is_behind: bool,
    /// The process groups of running programs.
    groups: HashSet<i32>,
}

impl Guard {
    /// Starts the guard, and the task that starts it again when it ends.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(kill_grace: Duration, children: Option<Arc<Children>>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            mark: mark(),
            grace: kill_grace.min(LONGEST_GRACE),
            children,
            state: Mutex::default(),
            closing: CancellationToken::new(),
            failed: Notify::new(),
            keeper: Mutex::default(),
        });
        let child = shared.spawn()?;
        let keeper = tokio::spawn(Arc::clone(&shared).keep(child));
        *shared.keeper.lock() = Some(AbortOnDropHandle::new(keeper));
        Ok(Self(shared))
    }

    /// The variable that marks a program as this worker's.
    pub(crate) fn mark(&self) -> (&'static str, &str) {
        (WORKER_VARIABLE, &self.0.mark)
    }

    /// Ends `group` with the worker, until what is returned is dropped.
    pub(crate) fn watch(&self, group: Pid) -> Watched {
        self.0.tell(group, true);
        Watched { shared: Arc::clone(&self.0), group }
    }

    /// Lets the guard end what programs have left behind, and waits until it has. The last step
    /// of an orderly end.
    pub(crate) async fn close(&self) {
        self.0.closing.cancel();
        self.0.state.lock().pipe = None;
        let keeper = self.0.keeper.lock().take();
        if let Some(keeper) = keeper {
            let _ = tokio::time::timeout(self.0.grace + CLOSE_MARGIN, keeper).await;
        }
    }
}

/// A process group that ends with the worker; dropped once its program has ended.
pub(crate) struct Watched {
    shared: Arc<Shared>,
    group: Pid,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.shared.tell(self.group, false);
    }
}

impl Shared {
    fn tell(&self, group: Pid, runs: bool) {
        let number = group.as_raw_nonzero().get();
        let mut state = self.state.lock();
        if runs {
            state.groups.insert(number)
        } else {
            state.groups.remove(&number)
        };
        let line = format!("{}{number}\n", if runs { '+' } else { '-' });
        if !state.send(line.as_bytes()) {
            self.failed.notify_one();
        }
    }

    /// Starts a guard and tells it what runs.
    fn spawn(&self) -> io::Result<Child> {
        // Found also when the file has been replaced since.
        let program = match cfg!(target_os = "linux") {
            true => "/proc/self/exe".into(),
            false => std::env::current_exe()?,
        };
        let mut command = std::process::Command::new(program);
        command
            // Not the worker's name: what is sent to all processes of that name is not for it.
            .arg0("serve-guard")
            .args(["guard", &self.mark, &self.grace.as_millis().to_string()])
            // A worker may itself run under another one, whose guard leaves this one be.
            .env_remove(WORKER_VARIABLE)
            .current_dir("/")
            // What a terminal or a service manager sends to the worker's group is not for it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut command = Command::from(command);
        let mut child = match &self.children {
            Some(children) => children.start(|| command.spawn().map(|it| (it.id(), it)))?,
            None => command.spawn()?,
        };
        let pipe = child.stdin.take().ok_or_else(|| io::Error::other("no pipe to it"))?;
        let pipe = pipe.into_owned_fd()?;
        // A guard that does not read is one that has failed; nothing waits for it.
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let mut state = self.state.lock();
        (state.pipe, state.is_behind) = (Some(pipe), false);
        let running: String = state.groups.iter().map(|group| format!("+{group}\n")).collect();
        if !state.send(running.as_bytes()) {
            self.failed.notify_one();
        }
        Ok(child)
    }

    /// Starts the guard again whenever it ends, until the worker is done.
    async fn keep(self: Arc<Self>, mut child: Child) {
        loop {
            let number = child.id();
            tokio::select! {
                biased;
                _ = child.wait() => {}
                () = self.failed.notified() => {
                    // Not asked: a guard that is stopped does not hear. It ends nothing then.
                    let _ = child.kill().await;
                }
            }
            if let (Some(children), Some(number)) = (&self.children, number) {
                children.ended(number);
            }
            if self.closing.is_cancelled() {
                return;
            }
            tracing::warn!(
                "the guard that ends programs with this worker has ended; starting it again"
            );
            loop {
                tokio::select! {
                    biased;
                    () = self.closing.cancelled() => return,
                    () = tokio::time::sleep(RESTART_PAUSE) => {}
                }
                match self.spawn() {
                    Ok(next) => {
                        child = next;
                        break;
                    }
                    Err(error) => tracing::warn!(%error, "the guard cannot be started"),
                }
            }
            if self.closing.is_cancelled() {
                self.state.lock().pipe = None;
            }
        }
    }
}

impl State {
    /// Writes to the guard. False, once, when it does not take it: it is to be replaced, and its
    /// successor is told everything.
    fn send(&mut self, line: &[u8]) -> bool {
        let Some(pipe) = &self.pipe else { return true };
        if self.is_behind || line.is_empty() {
            return true;
        }
        self.is_behind = rustix::io::write(pipe, line) != Ok(line.len());
        !self.is_behind
    }
}

/// 128 random bits in hexadecimal.
fn mark() -> String {
    sinew::StreamId::random().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_that_does_not_read_is_noticed_once_and_never_waited_for() {
        let (reader, writer) = io::pipe().unwrap();
        let pipe = OwnedFd::from(writer);
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        let mut state = State { pipe: Some(pipe), ..State::default() };
        // More than any pipe holds.
        let taken = (0..1_000_000).take_while(|_| state.send(b"+12345\n")).count();
        assert!(taken < 1_000_000);
        assert!(state.send(b"+12345\n"), "it was noticed before");
        drop(reader);
    }
}
