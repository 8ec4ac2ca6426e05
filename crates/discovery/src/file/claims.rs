//! The records that this process keeps in the directory.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    BACKEND,
    claim::{Claim, Course},
    directory::{Directory, Edition},
    edition::Changes,
    scan::Scanner,
};
use crate::{DiscoveryError, InstanceKey, MAX_INSTANCES, record::Record};

/// Records that may fail at one look before the rest waits for the next: most often all would fail
/// alike, and each costs a few calls of a file system in trouble.
const MAX_FAILURES: usize = 8;

/// What is asked for.
pub(super) struct Request {
    pub(super) key: InstanceKey,
    pub(super) name: String,
    pub(super) record: Record,
    pub(super) bytes: Vec<u8>,
    pub(super) answer: Answer,
}

pub(super) type Answer = oneshot::Sender<Result<RegistrationHandle, DiscoveryError>>;

/// The registering side's end of a claim: the claim ends when this is dropped.
#[derive(Debug)]
pub(super) struct RegistrationHandle {
    pub(super) token: u64,
    pub(super) is_dropped: Arc<AtomicBool>,
    /// That of all claims of the backend, so that a look need not ask each of them.
    pub(super) any_dropped: Arc<AtomicBool>,
}

impl Drop for RegistrationHandle {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Release);
        self.any_dropped.store(true, Ordering::Release);
    }
}

/// Where a claim finds out how things are.
pub(super) struct ClaimEnvironment<'a> {
    pub(super) directory: &'a Directory,
    pub(super) scanner: &'a Scanner,
    pub(super) heartbeat: Duration,
    pub(super) now: Instant,
}

/// All claims of one backend, by token.
#[derive(Default)]
pub(super) struct Claims {
    claims: BTreeMap<u64, Claim>,
    /// The tokens of each name; more than one while one replaces another.
    by_name: HashMap<String, Vec<u64>>,
    /// Claims that wait for an answer, or for their key.
    waiting: usize,
    /// Records that could not be removed when they should have been.
    leaving: Vec<Claim>,
    last_token: u64,
    /// A hold was dropped since the last look.
    any_dropped: Arc<AtomicBool>,
    changes: Changes,
    /// All records are touched together: one batch for the process, whatever their number.
    next_heartbeat: Option<Instant>,
    /// Where the last look left off, and whether it was touching.
    resume: Option<(u64, bool)>,
    /// So that a disk that stays full is reported once.
    is_failing: bool,
}

impl Claims {
    /// Takes a request up. Its answer comes now, or with a later [`reconcile`](Self::reconcile) when it has
    /// to be seen first whether the owner of a record lives.
    pub(super) fn add(&mut self, request: Request, environment: &ClaimEnvironment<'_>) {
        let former = self.by_name.get(&request.name).and_then(|tokens| tokens.last());
        let former = former.and_then(|token| self.claims.get(token));
        let is_foreign = former.is_some_and(|claim| claim.is_of_other_process(&request.record));
        let refusal = if is_foreign {
            Some(DiscoveryError::Taken { key: request.key.clone() })
        } else if self.claims.len() + self.leaving.len() >= MAX_INSTANCES {
            let what = format!("it keeps {MAX_INSTANCES} registrations and takes no more");
            Some(DiscoveryError::Unavailable { backend: BACKEND, what, source: None })
        } else {
            None
        };
        if let Some(error) = refusal {
            let _ = request.answer.send(Err(error));
            return;
        }
        let replaces = former.map(|claim| claim.bytes().to_vec());
        // What could not be removed is now replaced.
        self.leaving.retain(|old| old.name() != request.name);
        self.next_heartbeat.get_or_insert(environment.now + environment.heartbeat);
        self.last_token += 1;
        let token = self.last_token;
        let mut claim =
            Claim::new(token, request, replaces, environment.now, Arc::clone(&self.any_dropped));
        if matches!(claim.reconcile(environment), Course::Over) {
            return;
        }
        let (name, is_held) = (claim.name().to_owned(), claim.is_held());
        self.waiting += usize::from(!is_held);
        self.by_name.entry(name.clone()).or_default().push(token);
        self.claims.insert(token, claim);
        if is_held {
            self.drop_older(&name, token);
        }
    }

    /// The former registrations of a key are replaced by this one.
    fn drop_older(&mut self, name: &str, token: u64) {
        let Some(tokens) = self.by_name.get_mut(name) else { return };
        for old in tokens.extract_if(.., |old| *old < token) {
            let old = self.claims.remove(&old);
            self.waiting -= usize::from(old.is_some_and(|old| !old.is_held()));
        }
    }

    fn take_out(&mut self, token: u64) -> Option<Claim> {
        let claim = self.claims.remove(&token)?;
        self.waiting -= usize::from(!claim.is_held());
        if let Some(tokens) = self.by_name.get_mut(claim.name()) {
            tokens.retain(|one| *one != token);
            if tokens.is_empty() {
                self.by_name.remove(claim.name());
            }
        }
        Some(claim)
    }

    /// Looks after the claims: after those that wait at each look, after all when names in the
    /// directory have changed, and with each heartbeat. Returns the names of the files that it
    /// removed.
    pub(super) fn reconcile(
        &mut self,
        edition: Option<Edition>,
        environment: &ClaimEnvironment<'_>,
    ) -> Vec<String> {
        let removed = self.end_dropped(environment.directory);
        let next = *self.next_heartbeat.get_or_insert(environment.now + environment.heartbeat);
        let is_beating = environment.now >= next;
        if is_beating {
            self.next_heartbeat = Some(environment.now + environment.heartbeat);
            self.end_leaving(environment.directory);
        }
        let is_changed = edition.is_none_or(|edition| self.changes.note(edition, environment.now));
        let is_everything = is_beating || is_changed || self.resume.is_some();
        if is_everything || self.waiting > 0 {
            self.reconcile_each(is_everything, is_beating, environment);
        }
        removed
    }

    fn reconcile_each(
        &mut self,
        is_everything: bool,
        is_beating: bool,
        environment: &ClaimEnvironment<'_>,
    ) {
        let mut failures = 0;
        let (first, was_beating) = self.resume.take().unwrap_or((0, false));
        let is_beating = is_beating || was_beating;
        let behind = self.claims.range(first..).map(|(token, _)| *token);
        let before = self.claims.range(..first).map(|(token, _)| *token);
        let tokens: Vec<_> = behind.chain(before).collect();
        for token in tokens {
            let Some(claim) = self.claims.get_mut(&token) else { continue };
            let was_held = claim.is_held();
            if was_held && !is_everything {
                continue;
            }
            let course = claim.reconcile_with(is_beating, environment);
            let (is_held, name) = (claim.is_held(), claim.name().to_owned());
            self.waiting = self.waiting + usize::from(!is_held) - usize::from(!was_held);
            match course {
                Course::Goes => {}
                Course::Answered => self.drop_older(&name, token),
                Course::Over => drop(self.take_out(token)),
                Course::Failed(error) => {
                    failures += 1;
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::warn!(file = %name, %error, "a record cannot be kept; still trying");
                    }
                    if failures >= MAX_FAILURES {
                        // The next one has its turn first.
                        let next = (Bound::Excluded(token), Bound::Unbounded);
                        let next = self.claims.range(next).next().map(|(token, _)| *token);
                        self.resume = Some((next.unwrap_or(0), is_beating));
                        return;
                    }
                }
            }
        }
        if is_everything && failures == 0 && std::mem::take(&mut self.is_failing) {
            tracing::info!("all records can be kept again");
        }
    }

    fn end_dropped(&mut self, directory: &Directory) -> Vec<String> {
        if !self.any_dropped.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        let dropped = self.claims.iter().filter(|(_, claim)| claim.is_dropped());
        let dropped: Vec<_> = dropped.map(|(token, _)| *token).collect();
        let mut removed = Vec::new();
        for token in dropped {
            let Some(claim) = self.take_out(token) else { continue };
            removed.push(claim.name().to_owned());
            if let Err(error) = self.end(claim, directory) {
                tracing::debug!(%error, "a record stays for now");
            }
        }
        removed
    }

    /// Ends a claim; one whose record cannot be removed is tried again, because a record whose
    /// process runs counts as alive.
    fn end(&mut self, mut claim: Claim, directory: &Directory) -> io::Result<()> {
        let ended = claim.end(directory);
        if ended.is_err() {
            self.leaving.push(claim);
        }
        ended
    }

    fn end_leaving(&mut self, directory: &Directory) {
        let mut failures = 0;
        self.leaving.retain_mut(|claim| {
            failures += usize::from(failures < MAX_FAILURES && claim.end(directory).is_err());
            claim.is_held()
        });
    }

    /// Ends one claim. Returns the name of the file that it removed; `None` when the claim had
    /// been replaced.
    pub(super) fn withdraw(
        &mut self,
        token: u64,
        directory: &Directory,
    ) -> io::Result<Option<String>> {
        let Some(claim) = self.take_out(token) else { return Ok(None) };
        let name = claim.name().to_owned();
        self.end(claim, directory).map(|()| Some(name))
    }

    /// Ends all.
    pub(super) fn withdraw_all(&mut self, directory: &Directory) {
        for (_, mut claim) in std::mem::take(&mut self.claims) {
            if let Err(error) = claim.end(directory) {
                tracing::warn!(file = %claim.name(), %error, "its record ends with its TTL");
            }
        }
        self.end_leaving(directory);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.leaving.is_empty()
    }

    /// True while a claim depends on what the scanner sees.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting > 0
    }
}
