//! The thread that makes every file system call of one backend.
//!
//! A file system may hang for seconds; async tasks only ever wait for this thread's answers.

use std::{
    io::ErrorKind,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    COMMANDS, FileConfig,
    claim::{Claims, Ground, Request, unavailable},
    directory::Directory,
    scan::Scanner,
};
use crate::{DiscoveryError, Instance, Snapshot, View};

/// What the thread can be asked for.
pub(super) enum Command {
    Register(Box<Request>),
    Withdraw {
        token: u64,
        answer: oneshot::Sender<Result<(), DiscoveryError>>,
    },
    Watch {
        answer: oneshot::Sender<Result<View, DiscoveryError>>,
    },
    /// Withdraw everything and end; dropping the answer says that it is done.
    Stop {
        answer: oneshot::Sender<()>,
    },
}

/// The thread's state.
pub(super) struct Worker {
    config: FileConfig,
    directory: Directory,
    scanner: Scanner,
    claims: Claims,
    published: watch::Sender<Snapshot>,
    commands: mpsc::Receiver<Command>,
    is_lost: bool,
    /// Who waits for the end: dropped last.
    stopped: Option<oneshot::Sender<()>>,
}

impl Worker {
    pub(super) fn new(
        config: FileConfig,
        directory: Directory,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            scanner: Scanner::new(config.ttl),
            config,
            directory,
            claims: Claims::default(),
            published: watch::Sender::default(),
            commands,
            is_lost: false,
            stopped: None,
        }
    }

    /// Runs until told to stop, or until nobody can ask for anything any more. Whoever sends a
    /// command unparks the thread after it.
    pub(super) fn run(mut self) {
        let mut next_look = Instant::now();
        loop {
            match self.obey_some() {
                Some(true) => next_look = Instant::now(),
                Some(false) => {}
                None => break,
            }
            let now = Instant::now();
            if now >= next_look {
                self.tend(now);
                next_look = now + now.elapsed() + self.config.pause_after(now.elapsed());
            }
            if self.is_idle() {
                thread::park();
            } else {
                thread::park_timeout(next_look.saturating_duration_since(Instant::now()));
            }
        }
        self.claims.withdraw_all(&self.directory);
    }

    fn is_idle(&self) -> bool {
        self.claims.is_empty() && self.published.receiver_count() == 0
    }

    /// `None` to stop; true when there is reason to look at once.
    fn obey_some(&mut self) -> Option<bool> {
        let mut is_changed = false;
        // More come with an unparking of their own; in between, our own records are due.
        for _ in 0..COMMANDS {
            match self.commands.try_recv() {
                Ok(Command::Stop { answer }) => {
                    self.stopped = Some(answer);
                    return None;
                }
                Ok(command) => {
                    self.obey(command);
                    is_changed = true;
                }
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
            }
        }
        Some(is_changed)
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Register(request) => {
                let ground = Ground {
                    directory: &self.directory,
                    scanner: &self.scanner,
                    heartbeat: self.config.heartbeat(),
                    now,
                };
                self.claims.add(*request, &ground);
            }
            Command::Withdraw { token, answer } => {
                let ended = self.claims.withdraw(token, &self.directory);
                if let Ok(Some(name)) = &ended {
                    self.scanner.forget(name);
                    self.publish(now);
                }
                let ended = ended.map(drop);
                let _ = answer.send(ended.map_err(|error| {
                    unavailable("removing a record from", &self.directory, error)
                }));
            }
            Command::Watch { answer } => {
                let _ = answer.send(self.watch(now));
            }
            Command::Stop { .. } => {}
        }
    }

    fn watch(&mut self, now: Instant) -> Result<View, DiscoveryError> {
        let mut scanned = self.scanner.scan(&self.directory, now);
        if scanned.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            // Nobody has registered yet, so the directory is not there yet.
            let created = self.directory.create();
            scanned = created.and_then(|()| self.scanner.scan(&self.directory, now));
        }
        // With a good view from before, an outage is no reason to refuse a new one.
        if let Err(error) = scanned
            && self.published.borrow().revision() == 0
        {
            return Err(unavailable("reading", &self.directory, error));
        }
        self.publish(now);
        Ok(View::new(self.published.subscribe()))
    }

    /// Looks after our own records, and at those of others if anybody wants to know.
    fn tend(&mut self, now: Instant) {
        let ground = Ground {
            directory: &self.directory,
            scanner: &self.scanner,
            heartbeat: self.config.heartbeat(),
            now,
        };
        for name in self.claims.tend(&ground) {
            self.scanner.forget(&name);
        }
        if self.published.receiver_count() == 0 && !self.claims.is_waiting() {
            return;
        }
        let is_lost = match self.scanner.scan(&self.directory, now) {
            Ok(()) => false,
            Err(error) => {
                if !self.is_lost {
                    let directory = self.directory.path().display();
                    tracing::warn!(%directory, %error, "cannot be read: keeping the last view");
                }
                true
            }
        };
        if self.is_lost && !is_lost {
            tracing::info!(directory = %self.directory.path().display(), "can be read again");
        }
        self.is_lost = is_lost;
        self.publish(now);
    }

    fn publish(&mut self, now: Instant) {
        let instances: Vec<Arc<Instance>> = self.scanner.instances(now);
        self.published.send_if_modified(|snapshot| {
            let next = Snapshot::new(snapshot.revision() + 1, instances);
            // The first one counts as a change even when it is empty: it is known now.
            let is_changed = snapshot.revision() == 0 || !snapshot.changes_to(&next).is_empty();
            if is_changed {
                *snapshot = next;
            }
            is_changed
        });
    }
}

/// How long a dropped backend waits for its thread, which is at most one look away from its end
/// unless the file system hangs; a hung one must not hang an async task as well.
pub(super) const JOIN_PATIENCE: Duration = Duration::from_millis(250);
