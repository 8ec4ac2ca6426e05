//! One record that this process keeps in the directory.
//!
//! A claim waits while somebody else's record stands under its key, and holds the key while its
//! own does. Whatever else happens to the file (removed, cut, scribbled over, a folder put in its
//! place, its directory gone) is mended when it is seen.

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
    claims::{Answer, Ground, Hold, Request},
    directory::Directory,
    scan::Life,
    sighting::Stamp,
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
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
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

    pub(super) fn tend(&mut self, ground: &Ground<'_>) -> Course {
        self.tend_with(false, ground)
    }

    /// Looks after the file, and touches it when that is due.
    pub(super) fn tend_with(&mut self, is_beating: bool, ground: &Ground<'_>) -> Course {
        if self.answer.as_ref().is_some_and(Answer::is_closed) {
            return Course::Over;
        }
        let kept = self.keep(ground).and_then(|verdict| {
            if is_beating && verdict == Verdict::Held {
                self.touch(ground.directory)?;
            }
            Ok(verdict)
        });
        match kept {
            Ok(verdict) => self.conclude(verdict, ground),
            Err(error) => self.fail(error, ground.directory),
        }
    }

    fn conclude(&mut self, verdict: Verdict, ground: &Ground<'_>) -> Course {
        // Only who still waits for an answer can be refused; a claim that once held goes on.
        let Some(answer) = self.answer.take() else { return Course::Goes };
        let waited = ground.now.saturating_duration_since(self.asked);
        let refusal = match verdict {
            Verdict::Held => {
                self.replaces = None;
                let is_dropped = Arc::clone(&self.is_dropped);
                let any_dropped = Arc::clone(&self.any_dropped);
                let hold = Hold { token: self.token, is_dropped, any_dropped };
                // Nobody there any more: dropping the hold ends the claim.
                drop(answer.send(Ok(hold)));
                return Course::Answered;
            }
            Verdict::Taken => DiscoveryError::Taken { key: self.key.clone() },
            Verdict::Open if waited >= ground.heartbeat * ANSWER_WITHIN => {
                let place = ground.directory.path().display();
                let what = format!(
                    "{} stands in {place} already, and nothing there moves, so that its owner can \
                     be seen neither alive nor gone: choose another instance id, or remove it",
                    self.key
                );
                DiscoveryError::Unavailable { backend: BACKEND, what, source: None }
            }
            Verdict::Open => {
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
    fn keep(&mut self, ground: &Ground<'_>) -> io::Result<Verdict> {
        if let Some(held) = self.held {
            match ground.directory.stamp(&self.name) {
                Ok(stamp) if stamp == held => return Ok(Verdict::Held),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.settle(ground)
    }

    fn touch(&mut self, directory: &Directory) -> io::Result<()> {
        directory.touch(&self.name)?;
        self.held = Some(directory.stamp(&self.name)?);
        Ok(())
    }

    /// Looks at what stands under the key and puts our record there if nobody minds.
    fn settle(&mut self, ground: &Ground<'_>) -> io::Result<Verdict> {
        let Ground { directory, .. } = ground;
        let _lock = directory.lock();
        let standing = self.standing(ground)?;
        match standing {
            Standing::Ours(stamp) => {
                self.held = Some(stamp);
                Ok(Verdict::Held)
            }
            Standing::Nothing => match directory.publish(&self.name, &self.bytes) {
                // Somebody who does not lock was faster: see who, next time.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Verdict::Open),
                result => result.and_then(|()| self.take_hold(directory)),
            },
            Standing::Void => {
                directory.replace(&self.name, &self.bytes)?;
                self.take_hold(directory)
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

    fn take_hold(&mut self, directory: &Directory) -> io::Result<Verdict> {
        self.held = Some(directory.stamp(&self.name)?);
        Ok(Verdict::Held)
    }

    fn standing(&self, ground: &Ground<'_>) -> io::Result<Standing> {
        let (stamp, bytes) = match ground.directory.read(&self.name) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Standing::Nothing),
            // A link, a pipe, a folder, a giant: not a record, so it holds no key.
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
