//! The policies of endpoints: one file for each, in a folder that stock Dynamo peers do not read.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use sinew_plane::{EndpointName, clock};

use super::{
    FileConfig, MAX_NAME_BYTES, claim::unavailable, directory::Directory, edition::Changes,
    observation::Stamp,
};
use crate::{
    DiscoveryError, PlanePolicy,
    policy_board::PolicyBoard,
    policy_record::{PolicyReader, decode, encode},
    record,
};

/// The folder, below the root.
const BUCKET: &str = "sinew/policies";

/// The files, and those who watch them. Only the thread of the backend has it.
pub(super) struct Policies {
    directory: Directory,
    board: Arc<PolicyBoard>,
    seen: HashMap<EndpointName, Seen>,
    changes: Changes,
    /// Between two checks of the whole way to the folder, and of each file.
    check_every: Duration,
    last_check: Option<Instant>,
    /// Why the folder cannot be read, as it was said.
    trouble: Option<String>,
}

/// What was there at the last look.
#[derive(Default)]
struct Seen {
    stamp: Option<Stamp>,
    /// False while it could not be told what is there.
    is_known: bool,
    reader: PolicyReader,
}

/// The name of the file, if a file system takes it.
pub(super) fn file_name(endpoint: &EndpointName) -> Result<String, DiscoveryError> {
    let name = record::file_name(endpoint.as_str());
    if name.len() > MAX_NAME_BYTES {
        let size = name.len();
        let reason = format!("{endpoint} makes a file name of {size} bytes: {MAX_NAME_BYTES} fit");
        return Err(DiscoveryError::Invalid { reason });
    }
    Ok(name)
}

impl Policies {
    pub(super) fn new(root: &Path, config: &FileConfig, board: Arc<PolicyBoard>) -> Self {
        Self {
            directory: Directory::of_bucket(root, BUCKET, config.trust.clone()),
            board,
            seen: HashMap::new(),
            changes: Changes::default(),
            check_every: config.ttl / 4,
            last_check: None,
            trouble: None,
        }
    }

    /// Stores a policy in the place of what is there, and shows it.
    pub(super) fn put(&mut self, policy: PlanePolicy) -> Result<PlanePolicy, DiscoveryError> {
        policy.check()?;
        let name = file_name(&policy.endpoint)?;
        self.directory.create().map_err(|error| self.failed("making", error.into()))?;
        let written = {
            let _lock = self.directory.lock();
            let former = self.former(&policy.endpoint, &name);
            let policy = policy.replacing(former);
            self.directory.replace(&name, &encode(&policy)).map(|()| policy)
        };
        let policy = written.map_err(|error| self.failed("writing to", error))?;
        self.look(clock::now());
        Ok(policy)
    }

    fn former(&self, endpoint: &EndpointName, name: &str) -> Option<u64> {
        let (_, bytes) = self.directory.read(name).ok()?;
        decode(endpoint, &bytes).ok().map(|former| former.version)
    }

    /// Removes the policy of an endpoint. False if there was none.
    pub(super) fn remove(&mut self, endpoint: &EndpointName) -> Result<bool, DiscoveryError> {
        let name = file_name(endpoint)?;
        let removed = match self.directory.stamp(&name) {
            Ok(_) => self.directory.remove(&name).map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        let removed = removed.map_err(|error| self.failed("removing a file from", error))?;
        self.look(clock::now());
        Ok(removed)
    }

    fn failed(&self, doing: &str, error: io::Error) -> DiscoveryError {
        unavailable(doing, &self.directory, error)
    }

    /// Files looked at and files read since the last time.
    #[cfg(test)]
    pub(super) fn take_calls(&self) -> [u64; 2] {
        let calls = &self.directory.calls;
        [&calls.stamps, &calls.reads].map(|count| count.replace(0))
    }

    /// True while nobody watches one.
    pub(super) fn is_unwatched(&self) -> bool {
        self.board.is_empty()
    }

    /// Reads the files of the watched endpoints that have changed: the folder's own times tell of
    /// files that were stored or removed, and each file is looked at four times per TTL. While the
    /// folder cannot be read, what is shown stays.
    pub(super) fn look(&mut self, now: Instant) {
        let watched = self.board.watched();
        self.seen.retain(|endpoint, _| watched.contains(endpoint));
        if watched.is_empty() {
            return;
        }
        let due = |last| now.saturating_duration_since(last) >= self.check_every;
        let is_due = self.last_check.is_none_or(due);
        let is_changed = match self.directory.check(is_due) {
            Ok(edition) => self.changes.note(edition, now) || is_due,
            // Nobody has stored one yet.
            Err(error) if error.is_missing() => {
                self.note_trouble(None);
                self.seen.clear();
                watched.iter().for_each(|endpoint| self.board.show(endpoint, None));
                return;
            }
            Err(error) => return self.note_trouble(Some(error.to_string())),
        };
        self.note_trouble(None);
        if is_due {
            self.last_check = Some(now);
        }
        for endpoint in watched {
            let seen = self.seen.entry(endpoint.clone()).or_default();
            if (is_changed || !seen.is_known)
                && let Some(policy) = seen.look(&self.directory, &endpoint)
            {
                self.board.show(&endpoint, policy);
            }
        }
    }

    /// Says once why policies cannot be read, and that they can be again.
    fn note_trouble(&mut self, trouble: Option<String>) {
        let directory = self.directory.path().display();
        match &trouble {
            Some(why) if self.trouble.as_ref() != Some(why) => {
                tracing::warn!(%directory, %why, "policies cannot be read: keeping what is known");
            }
            None if self.trouble.is_some() => {
                tracing::info!(%directory, "policies can be read again");
            }
            _ => {}
        }
        self.trouble = trouble;
    }
}

impl Seen {
    /// What is there; `None` if that is the same as before, or cannot be told.
    fn look(
        &mut self,
        directory: &Directory,
        endpoint: &EndpointName,
    ) -> Option<Option<PlanePolicy>> {
        // A name that no file system takes has no file.
        let name = file_name(endpoint).ok()?;
        let found = directory.stamp(&name).and_then(|stamp| {
            let is_same = self.is_known && self.stamp.as_ref() == Some(&stamp);
            if is_same { Ok(None) } else { directory.read(&name).map(Some) }
        });
        self.is_known = true;
        match found {
            Ok(None) => None,
            Ok(Some((stamp, bytes))) => {
                self.stamp = Some(stamp);
                Some(self.reader.read(endpoint, &bytes))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.stamp = None;
                Some(None)
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                self.stamp = directory.stamp(&name).ok();
                tracing::warn!(%endpoint, %error, "the policy of the endpoint is not read");
                Some(None)
            }
            Err(_) => {
                self.is_known = false;
                None
            }
        }
    }
}
