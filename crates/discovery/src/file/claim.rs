//! The records that this process keeps in the directory.
//!
//! A claim waits while somebody else's record stands under its key, and holds the key while its
//! own does. Whatever else happens to the file (removed, cut, scribbled over, its directory gone)
//! is mended at the next look.

use std::{
    io::{self, ErrorKind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    BACKEND,
    directory::Directory,
    scan::{Life, Scanner},
    sighting::Stamp,
};
use crate::{
    DiscoveryError, InstanceKey, MAX_INSTANCES, host_id, process,
    record::{self, Record},
};

/// What is asked for.
pub(super) struct Request {
    pub(super) key: InstanceKey,
    pub(super) name: String,
    pub(super) record: Record,
    pub(super) bytes: Vec<u8>,
    pub(super) answer: Answer,
}

pub(super) type Answer = oneshot::Sender<Result<Hold, DiscoveryError>>;

/// The registering side's end of a claim: the claim ends when this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) token: u64,
    is_dropped: Arc<AtomicBool>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Release);
    }
}

/// All claims of one backend.
#[derive(Default)]
pub(super) struct Claims {
    claims: Vec<Claim>,
    last_token: u64,
}

struct Claim {
    token: u64,
    key: InstanceKey,
    name: String,
    record: Record,
    bytes: Vec<u8>,
    /// The bytes of the claim of this process that this one replaces.
    replaces: Option<Vec<u8>>,
    is_dropped: Arc<AtomicBool>,
    /// Taken with the first definite result.
    answer: Option<Answer>,
    held: Option<Held>,
    /// So that a disk that stays full is reported once.
    is_failing: bool,
}

struct Held {
    /// The file as we left it.
    stamp: Stamp,
    touched: Instant,
}

/// Where a claim finds out how things are.
pub(super) struct Ground<'a> {
    pub(super) directory: &'a Directory,
    pub(super) scanner: &'a Scanner,
    pub(super) heartbeat: Duration,
    pub(super) now: Instant,
}

/// What stands under a claim's key.
enum Standing {
    Nothing,
    Ours(Stamp),
    /// Nobody lives who could mind.
    Void,
    /// A record of another process, which lives.
    Taken,
    /// A record of another process, of which it is too early to tell.
    Unclear,
}

/// What one look at a claim came to.
#[derive(Clone, Copy)]
enum Verdict {
    Held,
    Taken,
    /// It has to be seen.
    Open,
}

impl Claims {
    /// Takes a request up. Its answer comes now, or with a later [`tend`](Self::tend) when it has
    /// to be seen first whether the owner of a record lives.
    pub(super) fn add(&mut self, request: Request, ground: &Ground<'_>) {
        let Request { key, name, record, bytes, answer } = request;
        let other = self.claims.iter().find(|claim| claim.name == name);
        let is_foreign = |claim: &Claim| {
            let numbers = claim.record.instance.process.zip(record.instance.process);
            numbers.is_some_and(|(one, two)| one != two)
        };
        let refusal = if other.is_some_and(is_foreign) {
            Some(DiscoveryError::Taken { key: key.clone() })
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
        self.last_token += 1;
        let mut claim = Claim {
            token: self.last_token,
            replaces: other.map(|claim| claim.bytes.clone()),
            is_dropped: Arc::default(),
            answer: Some(answer),
            held: None,
            is_failing: false,
            key,
            name,
            record,
            bytes,
        };
        if claim.tend(ground) {
            if claim.held.is_some() {
                self.claims.retain(|old| old.name != claim.name);
            }
            self.claims.push(claim);
        }
    }

    /// Looks after every claim. Returns the names of the files that it removed.
    pub(super) fn tend(&mut self, ground: &Ground<'_>) -> Vec<String> {
        let mut removed = Vec::new();
        let mut replaced = Vec::new();
        self.claims.retain_mut(|claim| {
            if claim.is_dropped.load(Ordering::Acquire) {
                if let Err(error) = claim.end(ground.directory) {
                    tracing::debug!(key = %claim.key, %error, "its record ends with its TTL");
                }
                removed.push(claim.name.clone());
                return false;
            }
            let was_asking = claim.answer.is_some();
            let stays = claim.tend(ground);
            if stays && was_asking && claim.held.is_some() {
                replaced.push((claim.name.clone(), claim.token));
            }
            stays
        });
        for (name, token) in replaced {
            self.claims.retain(|claim| claim.name != name || claim.token == token);
        }
        removed
    }

    /// Ends one claim. Returns the name of the file that it removed; `None` when the claim had
    /// been replaced.
    pub(super) fn withdraw(
        &mut self,
        token: u64,
        directory: &Directory,
    ) -> io::Result<Option<String>> {
        let Some(at) = self.claims.iter().position(|claim| claim.token == token) else {
            return Ok(None);
        };
        let mut claim = self.claims.swap_remove(at);
        claim.end(directory).map(|()| Some(claim.name))
    }

    /// Ends all.
    pub(super) fn withdraw_all(&mut self, directory: &Directory) {
        for mut claim in self.claims.drain(..) {
            if let Err(error) = claim.end(directory) {
                tracing::warn!(key = %claim.key, %error, "its record ends with its TTL");
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// True while a claim depends on what the scanner sees.
    pub(super) fn is_waiting(&self) -> bool {
        self.claims.iter().any(|claim| claim.held.is_none())
    }
}

impl Claim {
    /// False when the claim is over: it was refused, or nobody waits for it any more.
    fn tend(&mut self, ground: &Ground<'_>) -> bool {
        if self.answer.as_ref().is_some_and(Answer::is_closed) {
            return false;
        }
        let result = match self.keep(ground) {
            Ok(true) => Ok(Verdict::Held),
            Ok(false) => self.settle(ground),
            Err(error) => Err(error),
        };
        match result {
            Ok(verdict) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(key = %self.key, "its record can be written again");
                }
                self.conclude(verdict)
            }
            Err(error) => self.fail(error, ground.directory),
        }
    }

    fn conclude(&mut self, verdict: Verdict) -> bool {
        // Only who still waits for an answer can be refused; a claim that once held goes on.
        match (verdict, self.answer.take()) {
            (Verdict::Held, Some(answer)) => {
                self.replaces = None;
                let hold = Hold { token: self.token, is_dropped: Arc::clone(&self.is_dropped) };
                // Nobody there any more: dropping the hold ends the claim.
                drop(answer.send(Ok(hold)));
                true
            }
            (Verdict::Taken, Some(answer)) => {
                let _ = answer.send(Err(DiscoveryError::Taken { key: self.key.clone() }));
                false
            }
            (_, answer) => {
                self.answer = answer;
                true
            }
        }
    }

    fn fail(&mut self, error: io::Error, directory: &Directory) -> bool {
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(Err(unavailable("writing a record to", directory, error)));
            return false;
        }
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(key = %self.key, %error, "its record cannot be kept; still trying");
        }
        true
    }

    /// Touches the file when that is due. False when it is not as we left it.
    fn keep(&mut self, ground: &Ground<'_>) -> io::Result<bool> {
        let Some(held) = &mut self.held else { return Ok(false) };
        match ground.directory.stamp(&self.name) {
            Ok(stamp) if stamp == held.stamp => {}
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => return Ok(false),
        }
        if ground.now.saturating_duration_since(held.touched) >= ground.heartbeat {
            ground.directory.touch(&self.name)?;
            held.stamp = ground.directory.stamp(&self.name)?;
            held.touched = ground.now;
        }
        Ok(true)
    }

    /// Looks at what stands under the key and puts our record there if nobody minds.
    fn settle(&mut self, ground: &Ground<'_>) -> io::Result<Verdict> {
        let Ground { directory, .. } = ground;
        let _lock = directory.lock();
        let standing = self.standing(ground)?;
        match standing {
            Standing::Ours(stamp) => {
                // Whatever moved the file was not a touch of ours, so the next stays due.
                let touched = self.held.take().map_or(ground.now, |held| held.touched);
                self.held = Some(Held { stamp, touched });
                Ok(Verdict::Held)
            }
            Standing::Nothing => match directory.publish(&self.name, &self.bytes) {
                // Somebody who does not lock was faster: see who, next time.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Verdict::Open),
                result => result.and_then(|()| self.take_hold(ground)),
            },
            Standing::Void => {
                directory.replace(&self.name, &self.bytes)?;
                self.take_hold(ground)
            }
            Standing::Taken | Standing::Unclear => {
                if self.held.take().is_some() {
                    // Two that both insist would overwrite each other for ever, so whoever comes
                    // back to find another in its place waits until that one is gone.
                    tracing::error!(key = %self.key, "another process has taken this key");
                }
                let is_taken = matches!(standing, Standing::Taken);
                Ok(if is_taken { Verdict::Taken } else { Verdict::Open })
            }
        }
    }

    fn take_hold(&mut self, ground: &Ground<'_>) -> io::Result<Verdict> {
        let stamp = ground.directory.stamp(&self.name)?;
        self.held = Some(Held { stamp, touched: ground.now });
        Ok(Verdict::Held)
    }

    fn standing(&self, ground: &Ground<'_>) -> io::Result<Standing> {
        let (stamp, bytes) = match ground.directory.read(&self.name) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Standing::Nothing),
            // A link, a pipe, a giant: not a record, so it holds no key.
            Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(Standing::Void),
            Err(error) => return Err(error),
        };
        if bytes == self.bytes {
            return Ok(Standing::Ours(stamp));
        }
        if self.replaces.as_ref() == Some(&bytes) {
            return Ok(Standing::Void);
        }
        let Ok(rival) = record::decode(&self.key, &bytes) else { return Ok(Standing::Void) };
        if rival.is_of_same_process(&self.record) {
            return Ok(Standing::Void);
        }
        let is_here = rival.instance.host.is_some() && rival.instance.host == host_id();
        if let Some(owner) = rival.owner.filter(|_| is_here) {
            let has_ended = process::has_ended(owner);
            return Ok(if has_ended { Standing::Void } else { Standing::Taken });
        }
        Ok(match ground.scanner.life(&self.name, stamp) {
            Life::Over => Standing::Void,
            Life::Moving => Standing::Taken,
            Life::Unknown => Standing::Unclear,
        })
    }

    /// Removes our record, if it is there.
    fn end(&mut self, directory: &Directory) -> io::Result<()> {
        if self.held.take().is_none() {
            return Ok(());
        }
        let _lock = directory.lock();
        match directory.read(&self.name) {
            Ok((_, bytes)) if bytes == self.bytes => directory.remove(&self.name),
            // Not ours any more, or never again: there is nothing to take back.
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// A failed file system call, as the caller sees it.
pub(super) fn unavailable(what: &str, directory: &Directory, error: io::Error) -> DiscoveryError {
    let what = format!("{what} {}: {error}", directory.path().display());
    DiscoveryError::Unavailable { backend: BACKEND, what, source: Some(error) }
}
