//! The policies of endpoints: one file for each, in a folder that stock Dynamo peers do not read.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use sinew_folder::Rules;
use sinew_plane::EndpointName;

use super::{
    BACKEND, MAX_NAME_BYTES, claim::unavailable, directory::Directory, observation::Stamp,
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
}

/// What was there at the last look.
#[derive(Default)]
struct Seen {
    stamp: Option<Stamp>,
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
    pub(super) fn new(root: &Path, rules: Rules, board: Arc<PolicyBoard>) -> Self {
        let directory = Directory::of_bucket(root, BUCKET, rules);
        Self { directory, board, seen: HashMap::new() }
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
        self.look();
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
        self.look();
        Ok(removed)
    }

    fn failed(&self, doing: &str, error: io::Error) -> DiscoveryError {
        unavailable(doing, &self.directory, error)
    }

    /// True while nobody watches one.
    pub(super) fn is_unwatched(&self) -> bool {
        self.board.is_empty()
    }

    /// Reads the files of the watched endpoints that have changed. While the folder cannot be read,
    /// what is shown stays.
    pub(super) fn look(&mut self) {
        let watched = self.board.watched();
        self.seen.retain(|endpoint, _| watched.contains(endpoint));
        if watched.is_empty() {
            return;
        }
        match self.directory.check(false) {
            Err(error) if !error.is_missing() => {
                tracing::debug!(backend = BACKEND, %error, "policies cannot be read");
                return;
            }
            _ => {}
        }
        for endpoint in watched {
            let seen = self.seen.entry(endpoint.clone()).or_default();
            if let Some(policy) = seen.look(&self.directory, &endpoint) {
                self.board.show(&endpoint, policy);
            }
        }
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
        let stamp = match directory.stamp(&name) {
            Ok(stamp) => stamp,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.stamp = None;
                return Some(None);
            }
            Err(_) => return None,
        };
        if self.stamp.as_ref() == Some(&stamp) {
            return None;
        }
        match directory.read(&name) {
            Ok((stamp, bytes)) => {
                self.stamp = Some(stamp);
                Some(self.reader.read(endpoint, &bytes))
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                self.stamp = Some(stamp);
                tracing::warn!(%endpoint, %error, "the policy of the endpoint is not read");
                Some(None)
            }
            Err(_) => None,
        }
    }
}
