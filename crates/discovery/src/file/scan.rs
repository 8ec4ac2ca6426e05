//! What the directory says, as seen over time.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, ErrorKind},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    directory::{Directory, Identity, Listed},
    sighting::{Sighting, Stamp},
};
use crate::{
    Instance, InstanceKey, MAX_INSTANCES, host_id, process,
    record::{self, Owner, Record},
};

/// Whether the owner of an entry is there, as far as this scanner has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It was seen to touch the entry within the TTL.
    Moving,
    /// The entry is there, and it is too early to tell.
    Unknown,
    /// Its time is over, or its process is.
    Over,
}

/// Looks at the directory again and again and keeps what it has learnt.
pub(super) struct Scanner {
    ttl: Duration,
    entries: BTreeMap<String, Entry>,
    directory: Option<Identity>,
    last_scan: Option<Instant>,
    scans: u64,
    is_full: bool,
}

struct Entry {
    /// `None` when the name is not that of a key.
    key: Option<InstanceKey>,
    /// False for a name that another program's quoting made, which counts less than Dynamo's own.
    is_canonical: bool,
    sighting: Sighting,
    seen_in: u64,
    record: Option<Kept>,
    /// Since when the file holds no record although it did before.
    bad_since: Option<Instant>,
    /// The file could not be opened or read, which says nothing about what is in it.
    must_read: bool,
    /// Its directory went away, so that its absence says nothing about its owner.
    may_be_absent: bool,
    is_dead: bool,
}

struct Kept {
    instance: Arc<Instance>,
    owner: Option<Owner>,
}

impl Scanner {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            entries: BTreeMap::new(),
            directory: None,
            last_scan: None,
            scans: 0,
            is_full: false,
        }
    }

    /// Looks once. After an error everything known is kept until its time is over.
    pub(super) fn scan(&mut self, directory: &Directory, now: Instant) -> io::Result<()> {
        self.forgive_unseen_time(now);
        let listing = directory.list().inspect_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                self.doubt_absence();
            }
        })?;
        if self.directory.replace(listing.directory) != Some(listing.directory) {
            self.doubt_absence();
        }
        self.scans += 1;
        for file in listing.files {
            self.look(directory, file, now);
        }
        let (ttl, scans) = (self.ttl, self.scans);
        self.entries.retain(|_, entry| {
            let is_excused = entry.may_be_absent || !listing.is_complete;
            entry.seen_in == scans || (is_excused && entry.sighting.is_alive(now, ttl))
        });
        self.bury_dead(directory);
        Ok(())
    }

    /// A process that was stopped, or had no reason to look, must not take its own silence for
    /// that of the others.
    fn forgive_unseen_time(&mut self, now: Instant) {
        let last = self.last_scan.replace(now).unwrap_or(now);
        let unseen = now.saturating_duration_since(last);
        // The longest pause between two looks is a quarter of the TTL.
        if unseen > self.ttl / 2 {
            self.entries.values_mut().for_each(|entry| entry.sighting.forgive(unseen));
        }
    }

    fn doubt_absence(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.may_be_absent = true);
    }

    fn look(&mut self, directory: &Directory, file: Listed, now: Instant) {
        let Listed { name, stamp, fault } = file;
        let is_full = self.entries.len() >= MAX_INSTANCES;
        let entry = match self.entries.get_mut(&name) {
            Some(entry) => {
                entry.must_read |= entry.sighting.again(stamp, now);
                entry
            }
            None if is_full => {
                if !std::mem::replace(&mut self.is_full, true) {
                    tracing::warn!(limit = MAX_INSTANCES, "too many files: the rest is not seen");
                }
                return;
            }
            None => self.entries.entry(name.clone()).or_insert(Entry::new(&name, stamp, now)),
        };
        entry.seen_in = self.scans;
        entry.may_be_absent = false;
        if entry.must_read {
            entry.must_read = false;
            entry.read(directory, &name, fault, now);
        }
    }

    /// Forgets who has provably ended on this host, and removes what they left.
    fn bury_dead(&mut self, directory: &Directory) {
        let Some(ours) = host_id() else { return };
        // One process often owns many entries.
        let mut verdicts: HashMap<Owner, bool> = HashMap::new();
        let mut newly_dead = Vec::new();
        for (name, entry) in &mut self.entries {
            let Some((owner, stamp)) = entry.owner_on(&ours) else { continue };
            let is_dead = *verdicts.entry(owner).or_insert_with(|| process::has_ended(owner));
            if is_dead && !std::mem::replace(&mut entry.is_dead, is_dead) {
                tracing::debug!(file = %name, pid = owner.pid, "its process has ended");
                newly_dead.push((name, stamp));
            }
        }
        if newly_dead.is_empty() {
            return;
        }
        let _lock = directory.lock();
        for (name, stamp) in newly_dead {
            // Somebody else may have taken the key since.
            if directory.stamp(name).is_ok_and(|now| now == stamp)
                && let Err(error) = directory.remove(name)
            {
                tracing::debug!(file = %name, %error, "a dead process's record stays");
            }
        }
    }

    /// Takes an entry that we have just removed out at once.
    pub(super) fn forget(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// What is alive, in an order where of two files for one key the better one comes last.
    pub(super) fn instances(&self, now: Instant) -> Vec<Arc<Instance>> {
        let mut alive: Vec<_> =
            self.entries.values().filter(|entry| entry.is_shown(now, self.ttl)).collect();
        alive.sort_by_key(|entry| entry.is_canonical);
        let kept = alive.into_iter().filter_map(|entry| entry.record.as_ref());
        kept.map(|kept| Arc::clone(&kept.instance)).collect()
    }

    /// What is known about the owner of the file with this name and stamp.
    pub(super) fn life(&self, name: &str, stamp: Stamp) -> Life {
        // As of the last look: there may have been none for hours.
        let known = self.entries.get(name).zip(self.last_scan);
        match known.filter(|(entry, _)| entry.sighting.stamp() == stamp) {
            None => Life::Unknown,
            Some((entry, then)) if entry.is_dead || !entry.sighting.is_alive(then, self.ttl) => {
                Life::Over
            }
            Some((entry, _)) if entry.sighting.has_moved() => Life::Moving,
            Some(_) => Life::Unknown,
        }
    }
}

impl Entry {
    fn new(name: &str, stamp: Stamp, now: Instant) -> Self {
        let key = record::key_of_file_name(name).and_then(|text| record::parse_key(&text));
        let canonical = key.as_ref().map(|key| record::file_name(&record::key(key)));
        Self {
            is_canonical: canonical.as_deref() == Some(name),
            key,
            sighting: Sighting::first(stamp, now),
            seen_in: 0,
            record: None,
            bad_since: None,
            must_read: true,
            may_be_absent: false,
            is_dead: false,
        }
    }

    fn read(
        &mut self,
        directory: &Directory,
        name: &str,
        fault: Option<&'static str>,
        now: Instant,
    ) {
        match self.record_in(directory, name, fault) {
            Ok(record) => {
                self.record = Some(self.keep(record));
                self.bad_since = None;
                self.is_dead = false;
            }
            Err(reason) => {
                tracing::debug!(file = %name, %reason, "not a record");
                self.bad_since.get_or_insert(now);
            }
        }
    }

    fn record_in(
        &mut self,
        directory: &Directory,
        name: &str,
        fault: Option<&'static str>,
    ) -> Result<Record, String> {
        let key = self.key.as_ref().ok_or("its name is not a key")?;
        if let Some(fault) = fault {
            return Err(fault.to_owned());
        }
        let (_, bytes) = directory.read(name).map_err(|error| {
            // Too many open files, for example: the next look may do better.
            self.must_read = error.kind() != ErrorKind::InvalidData;
            error.to_string()
        })?;
        record::decode(key, &bytes).map_err(|error| error.to_string())
    }

    /// Most reads find what was there before; those keep the allocation that snapshots share.
    fn keep(&self, record: Record) -> Kept {
        let Record { instance, owner } = record;
        let same = self.record.as_ref().filter(|kept| *kept.instance == instance);
        let instance = same.map_or_else(|| Arc::new(instance), |kept| Arc::clone(&kept.instance));
        Kept { instance, owner }
    }

    /// The process to ask the kernel about, if it runs on our host, and the file it left.
    fn owner_on(&self, our_host: &str) -> Option<(Owner, Stamp)> {
        let kept = self.record.as_ref()?;
        let is_here = kept.instance.host.as_deref() == Some(our_host);
        kept.owner.filter(|_| is_here).map(|owner| (owner, self.sighting.stamp()))
    }

    fn is_shown(&self, now: Instant, ttl: Duration) -> bool {
        let is_bad =
            self.bad_since.is_some_and(|since| now.saturating_duration_since(since) >= ttl);
        !self.is_dead && !is_bad && self.sighting.is_alive(now, ttl)
    }
}
