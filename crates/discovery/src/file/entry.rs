//! One file of the directory, with its history over several scans.

use std::{
    io::ErrorKind,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    directory::{Directory, Fault},
    observation::{Observation, Stamp},
    stall::SilenceMeaning,
};
use crate::{
    Instance, InstanceKey,
    host::are_different_machines,
    record::{self, Owner, Record},
};

/// A record that is only touched is read again this often at least: a touch may hide a write that
/// came before it.
const READ_EVERY: Duration = Duration::from_secs(300);

pub(super) struct Entry {
    /// `None` when the name is not that of a key.
    key: Option<InstanceKey>,
    /// False for a name that another program's quoting made, which counts less than Dynamo's own.
    pub(super) is_canonical: bool,
    pub(super) observation: Observation,
    pub(super) seen_in: u64,
    record: Option<ScannedEntry>,
    last_read: Instant,
    /// Since when the file holds no record although it did before.
    bad_since: Option<Instant>,
    /// The file could not be opened or read, which says nothing about what is in it.
    pub(super) must_read: bool,
    /// Its directory went away, so that its absence says nothing about its owner.
    pub(super) may_be_absent: bool,
    /// Its process has provably ended.
    pub(super) is_dead: bool,
    /// Its process provably runs, on this host.
    pub(super) is_running: bool,
    /// Shown although its time is over, because nothing at all can be seen to move.
    pub(super) is_excused: bool,
}

struct ScannedEntry {
    instance: Arc<Instance>,
    owner: Option<Owner>,
}

impl Entry {
    pub(super) fn new(name: &str, stamp: Stamp, now: Instant) -> Self {
        let key = record::key_of_file_name(name).and_then(|text| record::parse_key(&text));
        let canonical = key.as_ref().map(|key| record::file_name(&record::key(key)));
        Self {
            is_canonical: canonical.as_deref() == Some(name),
            key,
            observation: Observation::first(stamp, now),
            seen_in: 0,
            record: None,
            last_read: now,
            bad_since: None,
            must_read: true,
            may_be_absent: false,
            is_dead: false,
            is_running: false,
            is_excused: false,
        }
    }

    /// Reads the file. True when what it holds is other than before.
    pub(super) fn read(
        &mut self,
        directory: &Directory,
        name: &str,
        fault: Option<Fault>,
        now: Instant,
    ) -> bool {
        self.last_read = now;
        match self.record_in(directory, name, fault) {
            Ok(Some(record)) => {
                let was_hidden = self.is_dead || self.bad_since.is_some();
                self.bad_since = None;
                self.is_dead = false;
                self.keep(record) || was_hidden
            }
            // The next look may do better.
            Ok(None) => false,
            Err(reason) => {
                tracing::debug!(file = %name, %reason, "not a record");
                self.bad_since.get_or_insert(now);
                true
            }
        }
    }

    /// `None` when it cannot be read now, which says nothing about what is in it: there are too
    /// many open files, for example.
    fn record_in(
        &mut self,
        directory: &Directory,
        name: &str,
        fault: Option<Fault>,
    ) -> Result<Option<Record>, String> {
        let key = self.key.as_ref().ok_or("its name is not a key")?;
        if let Some(fault) = fault {
            return Err(fault.into_error().to_string());
        }
        match directory.read(name) {
            Ok((_, bytes)) => {
                record::decode(key, &bytes).map(Some).map_err(|error| error.to_string())
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(error.to_string()),
            Err(error) => {
                tracing::debug!(file = %name, %error, "cannot be read now");
                self.must_read = true;
                Ok(None)
            }
        }
    }

    /// Most reads find what was there before; those keep the allocation that snapshots share.
    fn keep(&mut self, record: Record) -> bool {
        let Record { instance, owner } = record;
        match &mut self.record {
            Some(kept) if *kept.instance == instance => {
                kept.owner = owner;
                false
            }
            kept => {
                *kept = Some(ScannedEntry { instance: Arc::new(instance), owner });
                self.is_running = false;
                true
            }
        }
    }

    /// True when a touched record is to be read all the same: one that is none, to see whether it
    /// has become one, and a good one now and then.
    pub(super) fn is_read_due(&self, now: Instant) -> bool {
        let is_good = self.record.is_some() && self.bad_since.is_none() && !self.is_dead;
        !is_good || now.saturating_duration_since(self.last_read) >= READ_EVERY
    }

    pub(super) fn instance(&self) -> Option<&Arc<Instance>> {
        self.record.as_ref().map(|kept| &kept.instance)
    }

    /// The process to ask the kernel about, if it runs on our host.
    pub(super) fn owner_on(&self, our_host: &str) -> Option<Owner> {
        let kept = self.record.as_ref()?;
        let is_here = kept.instance.host.as_deref() == Some(our_host);
        kept.owner.filter(|_| is_here)
    }

    /// What goes down together with it: a process of this machine, or a whole other machine.
    pub(super) fn fate(&self, our_host: Option<&str>) -> Option<String> {
        let instance = self.instance()?;
        let is_ours =
            |theirs: &str| our_host.is_some_and(|ours| !are_different_machines(ours, theirs));
        Some(match (&instance.host, instance.process) {
            (Some(host), Some(process)) if is_ours(host) => format!("process {host} {process}"),
            (Some(host), _) => format!("machine {}", host.split('-').next().unwrap_or_default()),
            (None, _) => {
                // A stock worker says only where it listens.
                let unreachable = instance.unreachable.iter().map(|one| &one.address);
                let mut places = instance.addresses.iter().chain(unreachable);
                let place = places.next().map_or("", |address| address.rest());
                let place = place.split('/').next().unwrap_or_default();
                format!("place {}", place.rsplit_once(':').map_or(place, |(host, _)| host))
            }
        })
    }

    /// True when it can be shown at all: it holds a record, and nobody has proved it dead.
    pub(super) fn is_good(&self, then: Instant, ttl: Duration) -> bool {
        let is_bad =
            self.bad_since.is_some_and(|since| then.saturating_duration_since(since) >= ttl);
        self.record.is_some() && !self.is_dead && !is_bad
    }

    /// True when its time is over and that has not been judged yet.
    pub(super) fn is_silent(&self, then: Instant, ttl: Duration) -> bool {
        !self.observation.is_alive(then, ttl) && !self.observation.is_settled()
    }

    /// Takes in what silence means. True when it may be shown or hidden from now on.
    pub(super) fn settle(
        &mut self,
        meaning: SilenceMeaning,
        was_stalled: bool,
        now: Instant,
        ttl: Duration,
    ) -> bool {
        if was_stalled && meaning != SilenceMeaning::Stalled && std::mem::take(&mut self.is_excused)
        {
            // From now on it can be seen whether its owner is there.
            self.observation.excuse(now);
        }
        let is_silent = self.is_silent(now, ttl);
        let is_over = match meaning {
            SilenceMeaning::Stalled => false,
            SilenceMeaning::Gone => true,
            SilenceMeaning::GoneBefore(then) => self.observation.last_change() <= then,
        };
        let is_gone = is_silent && is_over && !self.is_running;
        if is_gone {
            self.observation.settle();
        }
        self.is_excused = is_silent && !is_gone;
        // What went bad is shown for one TTL.
        is_gone || (self.bad_since.is_some() && self.record.is_some())
    }

    pub(super) fn is_shown(&self, then: Instant, ttl: Duration) -> bool {
        let is_alive = self.is_running || self.is_excused || self.observation.is_alive(then, ttl);
        is_alive && self.is_good(then, ttl)
    }
}
