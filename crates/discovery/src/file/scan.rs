//! The entries of the directory, with their history over several scans.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use sinew_folder::FolderError;

use super::{
    directory::{Directory, Edition, Fault, Listed, Listing},
    edition::Changes,
    entry::Entry,
    observation::Stamp,
    owners::Owners,
    stall::{Silence, StallDetector},
};
use crate::{Instance, MAX_INSTANCES, host_id, process};

/// Looks of which one lists all names, whatever the directory's times say.
const LOOKS: u64 = 4;

/// Users whose files were refused and reported.
const MAX_REPORTED: usize = 16;

/// Whether the owner of an entry is there, as far as this scanner has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
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
    changes: Changes,
    /// The last time that everything was looked at.
    last_scan: Option<Instant>,
    scans: u64,
    /// The last list had all names.
    is_complete: bool,
    is_full: bool,
    stall: StallDetector,
    owners: Owners,
    /// What is shown may be other than at the last [`take_changed`](Self::take_changed).
    is_changed: bool,
    reported: BTreeSet<u32>,
}

impl Scanner {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            entries: BTreeMap::new(),
            changes: Changes::default(),
            last_scan: None,
            scans: 0,
            is_complete: false,
            is_full: false,
            stall: StallDetector::default(),
            owners: Owners::default(),
            is_changed: false,
            reported: BTreeSet::new(),
        }
    }

    /// Looks at what may have changed: the directory's own times tell about names, and everything
    /// is looked at four times per TTL, for touches ([`listing`](Self::listing)). After an error everything known is kept, and
    /// so is the time it has left.
    pub(super) fn look(&mut self, directory: &Directory, now: Instant) -> Result<(), FolderError> {
        let is_due = self.is_scan_due(now);
        let edition = self.check(directory, is_due)?;
        let former = self.changes.last();
        let is_changed = self.changes.note(edition, now);
        if is_changed || is_due {
            let listing = self.listing(directory, is_changed)?;
            return self.take_listing(directory, listing, former, edition, now);
        }
        self.ask_after_owners(directory);
        Ok(())
    }

    /// Looks at everything.
    pub(super) fn scan(&mut self, directory: &Directory, now: Instant) -> Result<(), FolderError> {
        let edition = self.check(directory, true)?;
        let former = self.changes.last();
        self.changes.note(edition, now);
        let listing = self.listing(directory, true)?;
        self.take_listing(directory, listing, former, edition, now)
    }

    fn is_scan_due(&self, now: Instant) -> bool {
        let due = |last| now.saturating_duration_since(last) >= self.ttl / 4;
        self.last_scan.is_none_or(due)
    }

    fn check(&mut self, directory: &Directory, whole: bool) -> Result<Edition, FolderError> {
        directory.check(whole).inspect_err(|error| {
            if error.is_missing() {
                self.doubt_absence();
            }
            // Who has ended is known without the directory.
            self.ask_after_owners(directory);
        })
    }

    /// What is in the directory. As long as its own times stay the same, the names that are known
    /// are those that are there, but for one look in [`LOOKS`]; and the files of processes that run
    /// on this host tell of a change of what is in them only, so that every second look is enough.
    fn listing(&mut self, directory: &Directory, is_changed: bool) -> Result<Listing, FolderError> {
        let turn = self.scans % LOOKS;
        self.scans += 1;
        if is_changed || turn == 0 || !self.is_complete {
            let listed = directory.list();
            let listing = listed.map_err(|source| FolderError::Failed {
                path: directory.path().to_owned(),
                source,
            })?;
            self.is_complete = listing.is_complete;
            return Ok(listing);
        }
        let mut names = Vec::new();
        for (name, entry) in &mut self.entries {
            if entry.is_running && !entry.may_be_absent && turn % 2 == 1 {
                entry.seen_in = self.scans;
            } else {
                names.push(name.clone());
            }
        }
        directory
            .list_of(names)
            .map_err(|source| FolderError::Failed { path: directory.path().to_owned(), source })
    }

    fn take_listing(
        &mut self,
        directory: &Directory,
        listing: Listing,
        former: Option<Edition>,
        edition: Edition,
        now: Instant,
    ) -> Result<(), FolderError> {
        self.exclude_unseen_time(now);
        if former.is_some_and(|former| former.directory != edition.directory) {
            self.doubt_absence();
        }
        if former.is_none_or(|former| former.changed != edition.changed) {
            self.stall.note_movement(now);
        }
        for file in listing.files {
            self.take(directory, file, now);
        }
        let (ttl, scans, before) = (self.ttl, self.scans, self.entries.len());
        self.entries.retain(|_, entry| {
            let is_excused = entry.may_be_absent || !listing.is_complete;
            entry.seen_in == scans || (is_excused && entry.observation.is_alive(now, ttl))
        });
        if self.entries.len() != before {
            self.note_change();
        }
        self.ask_after_owners(directory);
        self.judge(directory, now);
        Ok(())
    }

    /// A process that was stopped, or could not look, must not take its own silence for that of
    /// the others.
    fn exclude_unseen_time(&mut self, now: Instant) {
        let last = self.last_scan.replace(now).unwrap_or(now);
        let unseen = now.saturating_duration_since(last);
        // The longest pause between two scans is a quarter of the TTL, and a look more.
        if unseen > self.ttl / 2 {
            self.entries.values_mut().for_each(|entry| entry.observation.exclude(unseen));
            self.stall.exclude(unseen);
        }
    }

    fn doubt_absence(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.may_be_absent = true);
    }

    fn take(&mut self, directory: &Directory, file: Listed, now: Instant) {
        let Listed { name, stamp, fault } = file;
        let is_full = self.entries.len() >= MAX_INSTANCES;
        if let Some(Fault::OfUser(user)) = fault {
            self.report(directory, user);
        }
        let entry = match self.entries.get_mut(&name) {
            Some(entry) => {
                let was_hidden = entry.observation.is_settled();
                let is_touch = stamp.is_touch_of(&entry.observation.stamp());
                if entry.observation.again(stamp, now) {
                    // A heartbeat leaves what it holds as it was.
                    entry.must_read |= !is_touch || fault.is_some() || entry.is_read_due(now);
                    self.is_changed |= was_hidden;
                    self.stall.note_movement(now);
                }
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
        if std::mem::take(&mut entry.must_read) && entry.read(directory, &name, fault, now) {
            self.note_change();
        }
    }

    /// Says once whose files are not read.
    fn report(&mut self, directory: &Directory, user: u32) {
        if self.reported.len() < MAX_REPORTED && self.reported.insert(user) {
            tracing::warn!(
                directory = %directory.path().display(), user,
                "files of this user are not read: list it as one to trust if they should be"
            );
        }
    }

    fn note_change(&mut self) {
        self.is_changed = true;
        self.owners.mark_stale();
    }

    /// Asks the kernel after the owners on this host: forgets who has provably ended, removes what
    /// they left, and keeps who provably runs.
    fn ask_after_owners(&mut self, directory: &Directory) {
        let Some(ours) = host_id() else { return };
        self.owners.refresh(|| {
            let living = self.entries.iter().filter(|(_, entry)| !entry.is_dead);
            living.filter_map(|(name, entry)| Some((entry.owner_on(&ours)?, name.clone())))
        });
        let mut dead = Vec::new();
        self.owners.ask(|owner, state, names| {
            let is_running = state == process::State::Runs;
            for name in names {
                let Some(entry) = self.entries.get_mut(name) else { continue };
                self.is_changed |= entry.is_running != is_running;
                entry.is_running = is_running;
                if state == process::State::Ended {
                    tracing::debug!(file = %name, pid = owner.pid, "its process has ended");
                    entry.is_dead = true;
                    dead.push((name.clone(), entry.observation.stamp()));
                }
            }
        });
        self.bury(directory, &dead);
    }

    fn bury(&mut self, directory: &Directory, dead: &[(String, Stamp)]) {
        if dead.is_empty() {
            return;
        }
        self.note_change();
        let _lock = directory.lock();
        for (name, stamp) in dead {
            // Somebody else may have taken the key since.
            if directory.stamp(name).is_ok_and(|now| now == *stamp)
                && let Err(error) = directory.remove(name)
            {
                tracing::debug!(file = %name, %error, "a dead process's record stays");
            }
        }
    }

    /// Decides what the silent entries mean.
    fn judge(&mut self, directory: &Directory, now: Instant) {
        let (ttl, ours) = (self.ttl, host_id());
        let mut silence = Silence::default();
        for entry in self.entries.values().filter(|entry| entry.is_good(now, ttl)) {
            if entry.is_silent(now, ttl) {
                let touched = entry.observation.stamp().modified.0;
                silence.add(entry.fate(ours.as_deref()), entry.observation.has_moved(), touched);
            }
        }
        let was_stalled = self.stall.is_stalled;
        let is_read_only = silence.last_touches.is_some() && directory.is_read_only();
        let meaning = self.stall.judge(&silence, is_read_only, now, ttl);
        for entry in self.entries.values_mut() {
            self.is_changed |= entry.settle(meaning, was_stalled, now, ttl);
        }
        let directory = directory.path().display();
        match (was_stalled, self.stall.is_stalled) {
            (false, true) => tracing::warn!(
                %directory, is_read_only,
                "nothing moves in it any more: keeping the last view, which may be out of date"
            ),
            (true, false) => tracing::info!(%directory, "something moves in it again"),
            _ => {}
        }
    }

    /// True when the directory was there once.
    pub(super) fn has_seen(&self) -> bool {
        self.last_scan.is_some()
    }

    /// True while all entries stand still at once, so that nobody's end can be seen.
    pub(super) fn is_stalled(&self) -> bool {
        self.stall.is_stalled
    }

    /// Takes an entry that we have just removed out at once.
    pub(super) fn forget(&mut self, name: &str) {
        if self.entries.remove(name).is_some() {
            self.note_change();
        }
    }

    /// Entries known.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when what is shown may be other than the last time.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// What is alive as of the last scan, in an order where of two files for one key the better
    /// one comes last.
    pub(super) fn instances(&self) -> Vec<Arc<Instance>> {
        let Some(then) = self.last_scan else { return Vec::new() };
        let mut alive: Vec<_> =
            self.entries.values().filter(|entry| entry.is_shown(then, self.ttl)).collect();
        alive.sort_by_key(|entry| entry.is_canonical);
        alive.into_iter().filter_map(|entry| entry.instance().map(Arc::clone)).collect()
    }

    /// What is known about the owner of the file with this name and stamp.
    pub(super) fn life(&self, name: &str, stamp: Stamp) -> Liveness {
        // As of the last look: there may have been none for hours.
        let known = self.entries.get(name).zip(self.last_scan);
        match known.filter(|(entry, _)| entry.observation.stamp() == stamp) {
            None => Liveness::Unknown,
            Some((entry, _)) if entry.is_dead => Liveness::Over,
            // Nobody's silence says anything.
            Some((entry, _)) if entry.is_excused => Liveness::Unknown,
            Some((entry, then)) if !entry.observation.is_alive(then, self.ttl) => Liveness::Over,
            Some((entry, _)) if entry.observation.has_moved() => Liveness::Moving,
            Some(_) => Liveness::Unknown,
        }
    }
}
