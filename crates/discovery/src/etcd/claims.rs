//! What this process has registered, and the work of keeping it in etcd.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    BACKEND,
    entry::{Entry, Placed},
    guard::Guard,
    lease::{Signals, backoff},
    members::{Fault, Members},
};
use crate::{DiscoveryError, MAX_INSTANCES, backoff::Backoff};

/// Entries that are written at once: enough to hide the round trips of a start-up with a thousand
/// endpoints, few against what etcd takes.
const AT_ONCE: usize = 32;

/// How often an entry that seems to stand is looked at. Losses are told at once by the guard and
/// the lease; this is for the events that a server lost.
const AUDIT_EVERY: Duration = Duration::from_secs(60);

/// What the owner of the claims is asked for.
pub(super) enum Command {
    Register { entry: Box<Entry>, answer: oneshot::Sender<Result<Hold, DiscoveryError>> },
    Withdraw { token: u64, answer: oneshot::Sender<Result<(), DiscoveryError>> },
}

/// The registering side's end of a claim: the claim ends when this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) token: u64,
    is_dropped: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

/// All claims of one backend.
pub(super) struct Claims {
    members: Arc<Members>,
    commands: mpsc::Receiver<Command>,
    lease: watch::Receiver<Option<i64>>,
    seen_lease: Option<i64>,
    signals: Arc<Signals>,
    guard: Arc<Guard>,
    claims: Vec<Claim>,
    last_token: u64,
    wake: Arc<Notify>,
    backoff: Backoff,
    removed: Option<Instant>,
}

struct Claim {
    token: u64,
    entry: Arc<Entry>,
    is_dropped: Arc<AtomicBool>,
    /// Taken with the first definite result.
    answer: Option<oneshot::Sender<Result<Hold, DiscoveryError>>>,
    /// Who waits for the withdrawal, from then on.
    leaving: Option<Vec<oneshot::Sender<Result<(), DiscoveryError>>>>,
    /// When it is looked at again.
    due: Instant,
    /// So that a key that somebody else has taken is reported once.
    is_displaced: bool,
}

enum Outcome {
    Placed(Result<Placed, Fault>),
    Removed(Result<(), Fault>),
}

impl Claims {
    pub(super) fn new(
        members: Arc<Members>,
        commands: mpsc::Receiver<Command>,
        lease: watch::Receiver<Option<i64>>,
        signals: Arc<Signals>,
        guard: Arc<Guard>,
    ) -> Self {
        Self {
            members,
            commands,
            lease,
            seen_lease: None,
            signals,
            guard,
            claims: Vec::new(),
            last_token: 0,
            wake: Arc::default(),
            backoff: backoff(),
            removed: None,
        }
    }

    /// When the last entry was taken away.
    pub(super) fn removed(&self) -> Option<Instant> {
        self.removed
    }

    /// Works until nobody can ask for anything any more.
    pub(super) async fn run(&mut self) {
        loop {
            self.tend().await;
            let next = self.claims.iter().map(|claim| claim.due).min();
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            let (wake, guard) = (Arc::clone(&self.wake), Arc::clone(&self.guard));
            tokio::select! {
                command = self.commands.recv() => {
                    let Some(command) = command else { return };
                    self.obey(command);
                    // All that came together is written together.
                    while let Ok(command) = self.commands.try_recv() {
                        self.obey(command);
                    }
                }
                // Looked at before the next work, which may come for another reason first.
                Ok(()) = self.lease.changed() => {}
                () = wake.notified() => {}
                lost = guard.lost() => self.doubt(&lost),
                () = due => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Register { entry, answer } => self.add(*entry, answer),
            Command::Withdraw { token, answer } => {
                match self.claims.iter_mut().find(|claim| claim.token == token) {
                    Some(claim) => {
                        claim.leaving.get_or_insert_default().push(answer);
                        claim.due = Instant::now();
                    }
                    // It was replaced by a later registration.
                    None => drop(answer.send(Ok(()))),
                }
            }
        }
    }

    fn add(&mut self, mut entry: Entry, answer: oneshot::Sender<Result<Hold, DiscoveryError>>) {
        let other = self.claims.iter().find(|claim| {
            claim.entry.name == entry.name && claim.leaving.is_none() && !claim.is_forsaken()
        });
        let is_foreign = other.is_some_and(|other| {
            let one = other.entry.record.instance.process;
            one.zip(entry.record.instance.process).is_some_and(|(one, two)| one != two)
        });
        let refusal = if is_foreign {
            Some(DiscoveryError::Taken { key: entry.key.clone() })
        } else if self.claims.len() >= MAX_INSTANCES {
            let what = format!("it keeps {MAX_INSTANCES} registrations and takes no more");
            Some(DiscoveryError::Unavailable { backend: BACKEND, what, source: None })
        } else {
            None
        };
        if let Some(error) = refusal {
            let _ = answer.send(Err(error));
            return;
        }
        entry.former = other.map(|other| other.entry.value.clone());
        self.signals.is_needed.notify_one();
        self.last_token += 1;
        self.claims.push(Claim {
            token: self.last_token,
            entry: Arc::new(entry),
            is_dropped: Arc::default(),
            answer: Some(answer),
            leaving: None,
            due: Instant::now(),
            is_displaced: false,
        });
    }

    fn doubt_all(&mut self) {
        let now = Instant::now();
        self.claims.iter_mut().for_each(|claim| claim.due = now);
        self.backoff.reset();
    }

    fn doubt(&mut self, lost: &BTreeSet<Vec<u8>>) {
        let now = Instant::now();
        let is_lost = |claim: &&mut Claim| lost.contains(&claim.entry.name);
        self.claims.iter_mut().filter(is_lost).for_each(|claim| claim.due = now);
    }

    /// Brings etcd to what is claimed, as far as it is due.
    async fn tend(&mut self) {
        let lease = *self.lease.borrow_and_update();
        if std::mem::replace(&mut self.seen_lease, lease) != lease {
            self.doubt_all();
        }
        let now = Instant::now();
        let mut work = JoinSet::new();
        let mut waiting: Vec<_> = self.due(lease, now);
        let mut failed = false;
        while !(waiting.is_empty() && work.is_empty()) {
            while work.len() < AT_ONCE
                && let Some((token, entry, lease)) = waiting.pop()
            {
                let members = Arc::clone(&self.members);
                work.spawn(async move {
                    let outcome = match lease {
                        Some(lease) => Outcome::Placed(entry.place(&members, lease).await),
                        None => Outcome::Removed(entry.remove(&members).await),
                    };
                    (token, outcome)
                });
            }
            if let Some(Ok((token, outcome))) = work.join_next().await {
                failed |= !self.note(token, outcome);
            }
            if failed {
                // Most often nobody answers; asking for each of a thousand would take minutes.
                waiting.clear();
            }
        }
        if failed {
            let again = Instant::now() + self.backoff.pause();
            let is_overdue = |claim: &&mut Claim| claim.due <= again;
            self.claims.iter_mut().filter(is_overdue).for_each(|claim| claim.due = again);
        }
    }

    /// The claims to work on: those with a lease are to be placed, those without to be removed.
    fn due(&mut self, lease: Option<i64>, now: Instant) -> Vec<(u64, Arc<Entry>, Option<i64>)> {
        let mut due = Vec::new();
        self.claims.retain_mut(|claim| {
            if claim.is_forsaken() && claim.leaving.is_none() {
                claim.leaving = Some(Vec::new());
                claim.due = now;
            }
            if claim.due > now {
                return true;
            }
            if claim.leaving.is_some() {
                due.push((claim.token, Arc::clone(&claim.entry), None));
            } else if lease.is_some() {
                due.push((claim.token, Arc::clone(&claim.entry), lease));
            } else {
                // A new lease wakes all.
                claim.due = now + AUDIT_EVERY;
            }
            true
        });
        // Worked on from the back; a later registration of a key comes after the former.
        due.reverse();
        due
    }

    /// False when it has to be tried again.
    fn note(&mut self, token: u64, outcome: Outcome) -> bool {
        let Some(at) = self.claims.iter().position(|claim| claim.token == token) else {
            return true;
        };
        match outcome {
            Outcome::Removed(result) => self.note_removed(at, result),
            Outcome::Placed(Ok(Placed::Held { revision })) => {
                self.note_held(at, revision);
                true
            }
            Outcome::Placed(Ok(Placed::Taken)) => {
                self.note_taken(at);
                true
            }
            Outcome::Placed(Err(fault)) => {
                if fault.is_not_found() {
                    // "requested lease not found"
                    self.signals.is_doubted.notify_one();
                }
                tracing::debug!(key = %self.claims[at].entry.key, %fault, "not registered");
                // A refusal stays one: whoever waits is told.
                if fault.is_refusal()
                    && let Some(answer) = self.claims[at].answer.take()
                {
                    let _ = answer.send(Err(fault.into_error("registering")));
                    self.claims.swap_remove(at);
                    return true;
                }
                false
            }
        }
    }

    fn note_held(&mut self, at: usize, revision: i64) {
        self.backoff.reset();
        let wake = Arc::clone(&self.wake);
        let claim = &mut self.claims[at];
        claim.due = Instant::now() + AUDIT_EVERY.mul_f64(0.75 + fastrand::f64() / 2.0);
        if std::mem::take(&mut claim.is_displaced) {
            tracing::info!(key = %claim.entry.key, "registered again");
        }
        self.guard.add(claim.entry.name.clone(), revision);
        if let Some(answer) = claim.answer.take() {
            let is_dropped = Arc::clone(&claim.is_dropped);
            // Nobody there any more: dropping the hold ends the claim.
            drop(answer.send(Ok(Hold { token: claim.token, is_dropped, wake })));
            let (token, name) = (claim.token, claim.entry.name.clone());
            // The former registration under the key is replaced by this one.
            self.claims.retain(|one| one.token >= token || one.entry.name != name);
        }
    }

    fn note_taken(&mut self, at: usize) {
        let claim = &mut self.claims[at];
        let key = claim.entry.key.clone();
        match claim.answer.take() {
            Some(answer) => {
                let _ = answer.send(Err(DiscoveryError::Taken { key }));
                self.claims.swap_remove(at);
            }
            // One that once stood does not fight with the other: it waits for that one to go.
            None => {
                if !std::mem::replace(&mut claim.is_displaced, true) {
                    tracing::error!(%key, "another process has taken this registration's place");
                }
                claim.due = Instant::now() + AUDIT_EVERY;
                self.guard.add(claim.entry.name.clone(), 0);
            }
        }
    }

    fn note_removed(&mut self, at: usize, result: Result<(), Fault>) -> bool {
        let is_removed = result.is_ok();
        let error = result.err();
        let claim = &mut self.claims[at];
        for answer in claim.leaving.iter_mut().flat_map(|all| all.drain(..)) {
            let result = match &error {
                None => Ok(()),
                Some(fault) => Err(Fault::answer(fault.to_string()).into_error("withdrawing")),
            };
            let _ = answer.send(result);
        }
        if is_removed {
            self.removed = Some(Instant::now());
            let claim = self.claims.swap_remove(at);
            if !self.claims.iter().any(|one| one.entry.name == claim.entry.name) {
                self.guard.remove(&claim.entry.name);
            }
        }
        is_removed
    }
}

impl Claim {
    /// Nobody holds it, or waits for it, any more.
    fn is_forsaken(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
            || self.answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}
