//! One record that this process keeps in the directory.
//!
//! A claim waits while another process has a record with its key, and holds the key while its own
//! record is there. If the file is removed, truncated, overwritten or replaced by a folder, or its
//! directory is removed, the claim writes it again at the next check.

use std::{
    io::{self, ErrorKind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{
    BACKEND,
    claims::{Answer, ClaimEnvironment, RegistrationHandle, Request},
    directory::Directory,
    observation::Stamp,
    scan::Liveness,
};
use crate::{
    DiscoveryError, InstanceKey, host_id, process,
    record::{self, Record},
};

/// Heartbeats that a request waits at most for an answer: two TTLs. Whether the owner of a record
/// lives is known after one, unless nothing can be seen.
const ANSWER_WITHIN: u32 = 6;

pub(super) struct Claim {
    token: u64,
    key: InstanceKey,
    name: String,
    record: Record,
    bytes: Vec<u8>,
    /// The bytes of the claim of this process that this one replaces.
    replaces: Option<Vec<u8>>,
    is_dropped: Arc<AtomicBool>,
    any_dropped: Arc<AtomicBool>,
    /// Taken with the first definite result.
    answer: Option<Answer>,
    asked: Instant,
    /// The file as we left it.
    held: Option<Stamp>,
}

/// What becomes of a claim after a look at it.
#[derive(Debug)]
pub(super) enum Course {
    Goes,
    /// It has just been granted.
    Answered,
    /// Something is wrong with the file system; it goes on.
    Failed(io::Error),
    /// It was refused, or nobody waits for it any more.
    Over,
}

/// What stands under a claim's key.
enum KeyState {
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
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClaimDecision {
    Held,
    Taken,
    /// It has to be seen.
    Open,
}

impl Claim {
    pub(super) fn new(
        token: u64,
        request: Request,
        replaces: Option<Vec<u8>>,
        now: Instant,
        any_dropped: Arc<AtomicBool>,
    ) -> Self {
        let Request { key, name, record, bytes, answer } = request;
        Self {
            token,
            key,
            name,
            record,
            bytes,
            replaces,
            is_dropped: Arc::default(),
            any_dropped,
            answer: Some(answer),
            asked: now,
            held: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }

    pub(super) fn is_of_other_process(&self, other: &Record) -> bool {
        let numbers = self.record.instance.process.zip(other.instance.process);
        numbers.is_some_and(|(one, two)| one != two)
    }

    pub(super) fn reconcile(&mut self, environment: &ClaimEnvironment<'_>) -> Course {
        self.reconcile_with(false, environment)
    }

    /// Looks after the file, and touches it when that is due.
    pub(super) fn reconcile_with(
        &mut self,
        is_beating: bool,
        environment: &ClaimEnvironment<'_>,
    ) -> Course {
        if self.answer.as_ref().is_some_and(Answer::is_closed) {
            return Course::Over;
        }
        let kept = self.keep(environment).and_then(|decision| {
            if is_beating && decision == ClaimDecision::Held {
                self.touch(environment.directory)?;
            }
            Ok(decision)
        });
        match kept {
            Ok(decision) => self.conclude(decision, environment),
            Err(error) => self.fail(error, environment.directory),
        }
    }

    fn conclude(&mut self, decision: ClaimDecision, environment: &ClaimEnvironment<'_>) -> Course {
        // Only who still waits for an answer can be refused; a claim that once held goes on.
        let Some(answer) = self.answer.take() else { return Course::Goes };
        let waited = environment.now.saturating_duration_since(self.asked);
        let refusal = match decision {
            ClaimDecision::Held => {
                self.replaces = None;
                let is_dropped = Arc::clone(&self.is_dropped);
                let any_dropped = Arc::clone(&self.any_dropped);
                let hold = RegistrationHandle { token: self.token, is_dropped, any_dropped };
                // Nobody there any more: dropping the hold ends the claim.
                drop(answer.send(Ok(hold)));
                return Course::Answered;
            }
            ClaimDecision::Taken => DiscoveryError::Taken { key: self.key.clone() },
            ClaimDecision::Open if waited >= environment.heartbeat * ANSWER_WITHIN => {
                let place = environment.directory.path().display();
                let what = format!(
                    "{} stands in {place} already, and nothing there moves, so that its owner can \
                     be seen neither alive nor gone: choose another instance id, or remove it",
                    self.key
                );
                DiscoveryError::Unavailable { backend: BACKEND, what, source: None }
            }
            ClaimDecision::Open => {
                self.answer = Some(answer);
                return Course::Goes;
            }
        };
        let _ = answer.send(Err(refusal));
        Course::Over
    }

    fn fail(&mut self, error: io::Error, directory: &Directory) -> Course {
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(Err(unavailable("writing a record to", directory, error)));
            return Course::Over;
        }
        Course::Failed(error)
    }

    /// Leaves the file as it is when it is as we left it.
    fn keep(&mut self, environment: &ClaimEnvironment<'_>) -> io::Result<ClaimDecision> {
        if let Some(held) = self.held {
            match environment.directory.stamp(&self.name) {
                Ok(stamp) if stamp == held => return Ok(ClaimDecision::Held),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.settle(environment)
    }

    fn touch(&mut self, directory: &Directory) -> io::Result<()> {
        directory.touch(&self.name)?;
        self.held = Some(directory.stamp(&self.name)?);
        Ok(())
    }

    /// Looks at what stands under the key and puts our record there if nobody minds.
    fn settle(&mut self, environment: &ClaimEnvironment<'_>) -> io::Result<ClaimDecision> {
        let ClaimEnvironment { directory, .. } = environment;
        let _lock = directory.lock();
        let key_state = self.key_state(environment)?;
        match key_state {
            KeyState::Ours(stamp) => {
                self.held = Some(stamp);
                Ok(ClaimDecision::Held)
            }
            KeyState::Nothing => match directory.publish(&self.name, &self.bytes) {
                // Somebody who does not lock was faster: see who, next time.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(ClaimDecision::Open),
                result => result.and_then(|()| self.take_hold(directory)),
            },
            KeyState::Void => {
                directory.replace(&self.name, &self.bytes)?;
                self.take_hold(directory)
            }
            KeyState::Taken | KeyState::Unclear => {
                if self.held.take().is_some() {
                    // Two that both insist would overwrite each other for ever, so whoever comes
                    // back to find another in its place waits until that one is gone.
                    tracing::error!(key = %self.key, "another process has taken this key");
                }
                let is_taken = matches!(key_state, KeyState::Taken);
                Ok(if is_taken { ClaimDecision::Taken } else { ClaimDecision::Open })
            }
        }
    }

    fn take_hold(&mut self, directory: &Directory) -> io::Result<ClaimDecision> {
        self.held = Some(directory.stamp(&self.name)?);
        Ok(ClaimDecision::Held)
    }

    fn key_state(&self, environment: &ClaimEnvironment<'_>) -> io::Result<KeyState> {
        let (stamp, bytes) = match environment.directory.read(&self.name) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(KeyState::Nothing),
            // A link, a pipe, a folder, a giant: not a record, so it holds no key.
            Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(KeyState::Void),
            Err(error) => return Err(error),
        };
        if bytes == self.bytes {
            return Ok(KeyState::Ours(stamp));
        }
        if self.replaces.as_ref() == Some(&bytes) {
            return Ok(KeyState::Void);
        }
        let Ok(rival) = record::decode(&self.key, &bytes) else { return Ok(KeyState::Void) };
        if rival.is_of_same_process(&self.record) {
            return Ok(KeyState::Void);
        }
        let is_here = rival.instance.host.is_some() && rival.instance.host == host_id();
        if let Some(owner) = rival.owner.filter(|_| is_here) {
            let has_ended = process::has_ended(owner);
            return Ok(if has_ended { KeyState::Void } else { KeyState::Taken });
        }
        Ok(match environment.scanner.life(&self.name, stamp) {
            Liveness::Over => KeyState::Void,
            Liveness::Moving => KeyState::Taken,
            Liveness::Unknown => KeyState::Unclear,
        })
    }

    /// Removes our record, if it is there.
    pub(super) fn end(&mut self, directory: &Directory) -> io::Result<()> {
        if self.held.is_none() {
            return Ok(());
        }
        let _lock = directory.lock();
        match directory.read(&self.name) {
            Ok((_, bytes)) if bytes == self.bytes => directory.remove(&self.name)?,
            // Not ours any more, or never again: there is nothing to take back.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {}
            Err(error) => return Err(error),
        }
        self.held = None;
        Ok(())
    }
}

/// A failed file system call, as the caller sees it.
pub(super) fn unavailable(what: &str, directory: &Directory, error: io::Error) -> DiscoveryError {
    let folder =
        error.get_ref().and_then(|inner| inner.downcast_ref::<sinew_folder::FolderError>());
    if let Some(folder) = folder.filter(|folder| folder.is_untrusted()) {
        let what = format!("{folder} (users to trust: FileConfig::trust, SINEW_DISCOVERY_USERS)");
        return DiscoveryError::Untrusted { backend: BACKEND, what };
    }
    let what = format!("{what} {}: {error}", directory.path().display());
    DiscoveryError::Unavailable { backend: BACKEND, what, source: Some(error) }
}
