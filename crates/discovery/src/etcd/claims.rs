//! The registrations of this process, and the work of keeping them in etcd.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sinew_plane::{Retries, random};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    BACKEND,
    batch::{Batch, Outcome, Task},
    entry::{Entry, Placed},
    lease::{Signals, retries},
    members::{Fault, Members},
    own_key_watch::OwnKeyWatch,
};
use crate::{DiscoveryError, MAX_INSTANCES};

/// Requests under way at once: enough to hide the round trips of a start-up with a thousand
/// endpoints, few against what etcd takes.
const AT_ONCE: usize = 4;

/// How often an entry that seems to stand is looked at. Losses are told at once by the guard and
/// the lease; this is for the events that a server lost.
const AUDIT_EVERY: Duration = Duration::from_secs(60);

/// What the owner of the claims is asked for.
pub(super) enum Command {
    Register {
        entry: Box<Entry>,
        answer: oneshot::Sender<Result<RegistrationHandle, DiscoveryError>>,
    },
    Withdraw {
        token: u64,
        answer: oneshot::Sender<Result<(), DiscoveryError>>,
    },
}

/// The registering side's end of a claim: the claim ends when this is dropped.
#[derive(Debug)]
pub(super) struct RegistrationHandle {
    pub(super) token: u64,
    is_dropped: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

impl Drop for RegistrationHandle {
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
    own_keys: Arc<OwnKeyWatch>,
    /// By token.
    claims: BTreeMap<u64, Claim>,
    /// The tokens of each key, in order; more than one while one replaces another.
    by_name: HashMap<Vec<u8>, Vec<u64>>,
    last_token: u64,
    /// When all that stands is looked at the next time.
    next_audit: Instant,
    wake: Arc<Notify>,
    retries: Retries,
    removed: Option<Instant>,
}

struct Claim {
    entry: Arc<Entry>,
    is_dropped: Arc<AtomicBool>,
    /// Taken with the first definite result.
    answer: Option<oneshot::Sender<Result<RegistrationHandle, DiscoveryError>>>,
    /// Who waits for the withdrawal, from then on.
    leaving: Option<Vec<oneshot::Sender<Result<(), DiscoveryError>>>>,
    /// When it is looked at again.
    due: Instant,
    /// It stands under the lease that holds now, as far as is known.
    stands: bool,
    /// So that a key that somebody else has taken is reported once.
    is_displaced: bool,
}

impl Claims {
    pub(super) fn new(
        members: Arc<Members>,
        commands: mpsc::Receiver<Command>,
        lease: watch::Receiver<Option<i64>>,
        signals: Arc<Signals>,
        own_keys: Arc<OwnKeyWatch>,
    ) -> Self {
        Self {
            members,
            commands,
            lease,
            seen_lease: None,
            signals,
            own_keys,
            claims: BTreeMap::new(),
            by_name: HashMap::new(),
            last_token: 0,
            next_audit: next_audit(),
            wake: Arc::default(),
            retries: retries(),
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
            self.reconcile().await;
            let next = self.claims.values().map(|claim| claim.due).min();
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            let (wake, own_keys) = (Arc::clone(&self.wake), Arc::clone(&self.own_keys));
            tokio::select! {
                biased;
                // Looked at before the next work, which may come for another reason first.
                Ok(()) = self.lease.changed() => {}
                lost = own_keys.lost() => self.mark_uncertain(&lost),
                () = wake.notified() => {}
                command = self.commands.recv() => {
                    let Some(command) = command else { return };
                    self.obey(command);
                    // All that came together is written together.
                    while let Ok(command) = self.commands.try_recv() {
                        self.obey(command);
                    }
                }
                () = due => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Register { entry, answer } => self.add(*entry, answer),
            Command::Withdraw { token, answer } => {
                match self.claims.get_mut(&token) {
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

    fn add(
        &mut self,
        mut entry: Entry,
        answer: oneshot::Sender<Result<RegistrationHandle, DiscoveryError>>,
    ) {
        let others = self.by_name.get(&entry.name).into_iter().flatten();
        let mut others = others.filter_map(|token| self.claims.get(token));
        let other = others.find(|claim| claim.leaving.is_none() && !claim.is_forsaken());
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
        self.by_name.entry(entry.name.clone()).or_default().push(self.last_token);
        let claim = Claim {
            entry: Arc::new(entry),
            is_dropped: Arc::default(),
            answer: Some(answer),
            leaving: None,
            due: Instant::now(),
            stands: false,
            is_displaced: false,
        };
        self.claims.insert(self.last_token, claim);
    }

    fn take_out(&mut self, token: u64) {
        let Some(claim) = self.claims.remove(&token) else { return };
        let name = &claim.entry.name;
        if let Some(tokens) = self.by_name.get_mut(name) {
            tokens.retain(|one| *one != token);
            if tokens.is_empty() {
                self.by_name.remove(name);
                self.own_keys.remove(name);
            }
        }
    }

    /// With another lease nothing stands.
    fn mark_all_uncertain(&mut self) {
        let now = Instant::now();
        for claim in self.claims.values_mut() {
            (claim.due, claim.stands) = (now, false);
        }
        self.retries.reset();
    }

    fn mark_uncertain(&mut self, lost: &BTreeSet<Vec<u8>>) {
        let now = Instant::now();
        let tokens = lost.iter().filter_map(|name| self.by_name.get(name)).flatten();
        for token in tokens {
            if let Some(claim) = self.claims.get_mut(token) {
                claim.due = now;
            }
        }
    }

    /// Brings etcd to what is claimed, as far as it is due.
    async fn reconcile(&mut self) {
        let lease = *self.lease.borrow_and_update();
        if std::mem::replace(&mut self.seen_lease, lease) != lease {
            self.mark_all_uncertain();
        }
        let now = Instant::now();
        if now >= self.next_audit {
            self.next_audit = next_audit();
        }
        let mut work = JoinSet::new();
        let mut waiting = Batch::of(self.due(lease, now)).into_iter();
        let mut failed = false;
        loop {
            while !failed
                && work.len() < AT_ONCE
                && let Some(batch) = waiting.next()
            {
                let members = Arc::clone(&self.members);
                work.spawn(async move { batch.run(&members).await });
            }
            // Most often nobody answers; asking for each of a thousand would take minutes.
            let Some(outcomes) = work.join_next().await else { break };
            for (token, outcome) in outcomes.unwrap_or_default() {
                failed |= !self.note(token, outcome);
            }
        }
        if failed {
            let again = Instant::now() + self.retries.pause();
            let is_overdue = |claim: &&mut Claim| claim.due <= again;
            self.claims.values_mut().filter(is_overdue).for_each(|claim| claim.due = again);
        }
    }

    /// What to work on: claims with a lease are to be placed, or to be seen where they stand, those
    /// without one to be removed. A later registration of a key comes after the former.
    fn due(&mut self, lease: Option<i64>, now: Instant) -> Vec<(u64, Arc<Entry>, Task)> {
        let mut due = Vec::new();
        for (token, claim) in &mut self.claims {
            if claim.is_forsaken() && claim.leaving.is_none() {
                claim.leaving = Some(Vec::new());
                claim.due = now;
            }
            if claim.due > now {
                continue;
            }
            let task = match lease {
                _ if claim.leaving.is_some() => Task::Remove,
                Some(lease) if claim.stands => Task::Audit { lease },
                Some(lease) => Task::Place { lease },
                None => {
                    // A new lease wakes all.
                    claim.due = now + AUDIT_EVERY;
                    continue;
                }
            };
            due.push((*token, Arc::clone(&claim.entry), task));
        }
        due
    }

    /// False when it has to be tried again.
    fn note(&mut self, token: u64, outcome: Outcome) -> bool {
        let Some(claim) = self.claims.get_mut(&token) else { return true };
        match outcome {
            Outcome::Removed(result) => self.note_removed(token, result),
            Outcome::Placed(Ok(Placed::Held { revision })) => {
                self.note_held(token, revision);
                true
            }
            Outcome::Placed(Ok(Placed::Taken)) => {
                self.note_taken(token);
                true
            }
            Outcome::Placed(Err(fault)) => {
                claim.stands = false;
                if fault.is_not_found() {
                    // "requested lease not found"
                    self.signals.is_doubted.notify_one();
                }
                tracing::debug!(key = %claim.entry.key, %fault, "not registered");
                // A refusal stays one: whoever waits is told.
                if fault.is_refusal()
                    && let Some(answer) = claim.answer.take()
                {
                    let _ = answer.send(Err(fault.into_error("registering")));
                    self.take_out(token);
                    return true;
                }
                false
            }
        }
    }

    fn note_held(&mut self, token: u64, revision: i64) {
        self.retries.reset();
        let wake = Arc::clone(&self.wake);
        let Some(claim) = self.claims.get_mut(&token) else { return };
        // All that stands is seen to together: one look is a few requests, whatever the number.
        claim.due = self.next_audit;
        claim.stands = true;
        if std::mem::take(&mut claim.is_displaced) {
            tracing::info!(key = %claim.entry.key, "registered again");
        }
        let name = claim.entry.name.clone();
        self.own_keys.add(name.clone(), revision);
        if let Some(answer) = claim.answer.take() {
            let is_dropped = Arc::clone(&claim.is_dropped);
            // Nobody there any more: dropping the hold ends the claim.
            drop(answer.send(Ok(RegistrationHandle { token, is_dropped, wake })));
            // The former registration under the key is replaced by this one.
            if let Some(tokens) = self.by_name.get_mut(&name) {
                for old in tokens.extract_if(.., |old| *old < token) {
                    self.claims.remove(&old);
                }
            }
        }
    }

    fn note_taken(&mut self, token: u64) {
        let Some(claim) = self.claims.get_mut(&token) else { return };
        let key = claim.entry.key.clone();
        claim.stands = false;
        match claim.answer.take() {
            Some(answer) => {
                let _ = answer.send(Err(DiscoveryError::Taken { key }));
                self.take_out(token);
            }
            // One that once stood does not fight with the other: it waits for that one to go.
            None => {
                if !std::mem::replace(&mut claim.is_displaced, true) {
                    tracing::error!(%key, "another process has taken this registration's place");
                }
                claim.due = Instant::now() + AUDIT_EVERY;
                self.own_keys.add(claim.entry.name.clone(), 0);
            }
        }
    }

    fn note_removed(&mut self, token: u64, result: Result<(), Fault>) -> bool {
        let is_removed = result.is_ok();
        let error = result.err();
        let Some(claim) = self.claims.get_mut(&token) else { return true };
        for answer in claim.leaving.iter_mut().flat_map(|all| all.drain(..)) {
            let result = match &error {
                None => Ok(()),
                Some(fault) => Err(Fault::answer(fault.to_string()).into_error("withdrawing")),
            };
            let _ = answer.send(result);
        }
        if is_removed {
            self.removed = Some(Instant::now());
            self.take_out(token);
        }
        is_removed
    }
}

/// Not all processes at the same moment: a fleet often starts at one.
fn next_audit() -> Instant {
    Instant::now() + AUDIT_EVERY.mul_f64(0.75 + random::fraction() / 2.0)
}

impl Claim {
    /// Nobody holds it, or waits for it, any more.
    fn is_forsaken(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
            || self.answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}
