//! The thread that makes every file system call of one backend.
//!
//! A file system may hang for seconds, so async tasks only wait for the answers of this thread.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use sinew_folder::FolderError;
use sinew_plane::{EndpointName, clock};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    COMMANDS, FileConfig,
    claim::unavailable,
    claims::{ClaimEnvironment, Claims, Request},
    directory::Directory,
    policies::Policies,
    scan::Scanner,
};
use crate::{DiscoveryError, Instance, PlanePolicy, Snapshot, View};

/// What the thread can be asked for.
pub(super) enum Command {
    Register(Box<Request>),
    Withdraw {
        token: u64,
        answer: oneshot::Sender<Result<(), DiscoveryError>>,
    },
    PutPolicy {
        policy: Box<PlanePolicy>,
        answer: oneshot::Sender<Result<PlanePolicy, DiscoveryError>>,
    },
    RemovePolicy {
        endpoint: EndpointName,
        answer: oneshot::Sender<Result<bool, DiscoveryError>>,
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
    policies: Policies,
    published: watch::Sender<Snapshot>,
    commands: mpsc::Receiver<Command>,
    /// When it may look or show again, so that this takes a tenth of one core.
    rested: Instant,
    /// What keeps the directory from being seen, as told last.
    trouble: Trouble,
    /// Who waits for the end: dropped last.
    stopped: Option<oneshot::Sender<()>>,
}

impl Worker {
    pub(super) fn new(
        config: FileConfig,
        directory: Directory,
        policies: Policies,
        commands: mpsc::Receiver<Command>,
        trouble: Trouble,
    ) -> Self {
        Self {
            scanner: Scanner::new(config.ttl),
            config,
            directory,
            claims: Claims::default(),
            policies,
            published: watch::Sender::default(),
            commands,
            rested: clock::now(),
            trouble,
            stopped: None,
        }
    }

    /// Runs until told to stop, or until nobody can ask for anything any more. Whoever sends a
    /// command unparks the thread after it.
    pub(super) fn run(mut self) {
        let mut next_look = clock::now();
        loop {
            match self.obey_some() {
                // Looked at soon, so that others see it; not at once, so that a thousand that come
                // one by one do not bring a thousand looks.
                Some(true) => next_look = next_look.min(self.rested),
                Some(false) => {}
                None => break,
            }
            let now = clock::now();
            if now >= next_look {
                self.reconcile(now);
                let spent = clock::since(now);
                next_look = now + spent + self.config.pause_after(spent);
                self.rested = now + spent + self.config.rest_after(spent);
            }
            if self.is_idle() {
                thread::park();
            } else {
                thread::park_timeout(next_look.saturating_duration_since(clock::now()));
            }
        }
        self.claims.withdraw_all(&self.directory);
    }

    fn is_idle(&self) -> bool {
        let is_unwatched = self.published.receiver_count() == 0 && self.policies.is_unwatched();
        self.claims.is_empty() && is_unwatched
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
        let now = clock::now();
        match command {
            Command::Register(request) => {
                let environment = ClaimEnvironment {
                    directory: &self.directory,
                    scanner: &self.scanner,
                    heartbeat: self.config.heartbeat(),
                    now,
                };
                self.claims.add(*request, &environment);
            }
            Command::Withdraw { token, answer } => {
                let ended = self.claims.withdraw(token, &self.directory);
                if let Ok(Some(name)) = &ended {
                    self.scanner.forget(name);
                    // Beyond a few, showing each by itself would cost more with each: the rest is
                    // shown at the next look.
                    if self.scanner.len() <= SHOWN_AT_ONCE || now >= self.rested {
                        self.publish();
                    }
                }
                let ended = ended.map(drop);
                let _ = answer.send(ended.map_err(|error| {
                    unavailable("removing a record from", &self.directory, error)
                }));
            }
            Command::PutPolicy { policy, answer } => {
                let _ = answer.send(self.policies.put(*policy));
            }
            Command::RemovePolicy { endpoint, answer } => {
                let _ = answer.send(self.policies.remove(&endpoint));
            }
            Command::Watch { answer } => {
                let _ = answer.send(self.watch(now));
            }
            Command::Stop { .. } => {}
        }
    }

    fn watch(&mut self, now: Instant) -> Result<View, DiscoveryError> {
        let scanned = self.scanner.scan(&self.directory, now);
        // The caller that asks for a first view gets the error itself.
        let is_first = self.published.borrow().revision() == 0;
        self.note_trouble(scanned.as_ref().err(), is_first);
        match scanned {
            Ok(()) => {}
            // Nobody has registered yet. Looking makes no folders.
            Err(error) if error.is_missing() => {}
            // With a good view from before, an outage is no reason to refuse a new one.
            Err(error) if is_first => {
                return Err(unavailable("reading", &self.directory, error.into()));
            }
            Err(_) => {}
        }
        self.publish();
        Ok(View::new(self.published.subscribe()))
    }

    /// Looks after our own records, and at those of others if anybody wants to know.
    fn reconcile(&mut self, now: Instant) {
        self.policies.look(now);
        if !self.claims.is_empty() {
            // An error shows again with the claims.
            let edition = self.directory.check(false).ok();
            let environment = ClaimEnvironment {
                directory: &self.directory,
                scanner: &self.scanner,
                heartbeat: self.config.heartbeat(),
                now,
            };
            for name in self.claims.reconcile(edition, &environment) {
                self.scanner.forget(&name);
            }
        }
        if self.published.receiver_count() == 0 && !self.claims.is_waiting() {
            return;
        }
        let looked = self.scanner.look(&self.directory, now);
        self.note_trouble(looked.as_ref().err(), false);
        if self.scanner.take_changed() {
            self.publish();
        }
    }

    /// Says once what keeps the directory from being seen, and once that it is over. A directory
    /// that was never there is no trouble. Of an error that is handed on, nothing is said here.
    fn note_trouble(&mut self, error: Option<&FolderError>, is_handed_on: bool) {
        let has_seen = self.scanner.has_seen();
        let error = error.filter(|error| has_seen || !error.is_missing());
        let trouble = match error {
            Some(error) => Some(error.to_string()),
            None if self.scanner.is_stalled() => Some(format!(
                "nothing moves in {} any more: what is shown may be out of date",
                self.directory.path().display()
            )),
            None => None,
        };
        let mut told = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // The scanner has said that it is blind.
        if let Some(error) = error.filter(|_| *told != trouble) {
            let directory = self.directory.path().display();
            if self.published.borrow().revision() > 0 {
                tracing::warn!(%directory, %error, "cannot be used: keeping the last view");
            } else if !is_handed_on {
                tracing::warn!(%directory, %error, "cannot be used: there is no view yet");
            }
        } else if trouble.is_none() && told.is_some() {
            tracing::info!(directory = %self.directory.path().display(), "can be used again");
        }
        *told = trouble;
    }

    fn publish(&mut self) {
        let begun = clock::now();
        let _ = self.scanner.take_changed();
        let instances: Vec<Arc<Instance>> = self.scanner.instances();
        self.published.send_if_modified(|snapshot| {
            let next = Snapshot::new(snapshot.revision() + 1, instances);
            // The first one counts as a change even when it is empty: it is known now.
            let is_changed = snapshot.revision() == 0 || !snapshot.changes_to(&next).is_empty();
            if is_changed {
                *snapshot = next;
            }
            is_changed
        });
        let spent = clock::since(begun);
        self.rested = self.rested.max(begun + spent + self.config.rest_after(spent));
    }
}

/// With so many instances a withdrawal shows in the process's own views before it returns; with
/// more it does some milliseconds later.
const SHOWN_AT_ONCE: usize = 256;

/// What keeps the directory from being seen now, if anything; shared with the handles.
pub(super) type Trouble = Arc<Mutex<Option<String>>>;

/// How long a dropped backend waits for its thread, which is at most one look away from its end
/// unless the file system hangs; a hung one must not hang an async task as well.
pub(super) const JOIN_PATIENCE: Duration = Duration::from_millis(250);
