//! Follows one prefix: a list, then a watch from the next revision on, and both again after each
//! interruption.

use std::{sync::Arc, time::Duration};

use etcd_client::{EventType, GetOptions, KeyValue, WatchOptions, WatchResponse, WatchStream};
use sinew_plane::random;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{
    lease::retries,
    lease_check::check_leases,
    members::{Fault, Members},
    probe::Probe,
    range::{Item, List, Missing, Range},
    removed_entries::RemovalDelay,
    snapshot_publisher::SnapshotPublisher,
};
use crate::{MAX_INSTANCES, record::MAX_RECORD_BYTES};

/// Keys in one answer to a list, so that no answer is larger than this many records.
const PAGE: usize = 256;

/// Largest answer that is read: a page of the largest records, and their keys.
const PAGE_BYTES: usize = PAGE * (MAX_RECORD_BYTES + 2048);

/// A list is taken this often, for the day on which a server loses an event.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// Messages that come within this time of the first are shown together: each showing costs a copy
/// of the whole list, and a fleet that starts sends one for each of its members.
const GATHER: Duration = Duration::from_millis(5);

/// The same once showing takes long, so that it takes a fifth of the time at most.
const GATHER_TIMES: u32 = 4;

/// Longest time that news wait to be shown with others.
const MAX_GATHER: Duration = Duration::from_millis(250);

/// Follows one prefix.
pub(super) struct RangeWatcher {
    members: Arc<Members>,
    publisher: Arc<SnapshotPublisher>,
    prefix: String,
    delay: RemovalDelay,
    range: Range,
    /// Of the last list.
    revision: i64,
    /// How long it took to show what is there the last time.
    showing: Duration,
}

/// What one wait of the watch came to.
enum Event {
    Message(Result<WatchResponse, Fault>),
    ListDue,
    Expired,
}

impl RangeWatcher {
    pub(super) fn new(
        members: Arc<Members>,
        publisher: Arc<SnapshotPublisher>,
        prefix: String,
        delay: RemovalDelay,
    ) -> Self {
        Self {
            members,
            publisher,
            prefix,
            delay,
            range: Range::default(),
            revision: 0,
            showing: Duration::ZERO,
        }
    }

    /// Follows until it is dropped. `listed` runs after the first list.
    pub(super) async fn run(mut self, listed: impl FnOnce()) {
        let mut retries = retries();
        let mut listed = Some(listed);
        loop {
            let begun = Instant::now();
            let fault = match self.list().await {
                Ok(()) => {
                    if let Some(listed) = listed.take() {
                        listed();
                    }
                    self.watch().await
                }
                Err(fault) => {
                    self.publisher.fail(&self.prefix, fault.clone());
                    fault
                }
            };
            tracing::debug!(prefix = %self.prefix, %fault, "the watch has ended: listing again");
            sleep(retries.pause_after(begun.elapsed())).await;
        }
    }

    /// Lists everything at the current revision, page by page, and shows it.
    async fn list(&mut self) -> Result<(), Fault> {
        let mut items: Vec<Item> = Vec::new();
        let (mut cluster, mut revision) = (0, 0);
        loop {
            let mut from = items.last().map_or(self.prefix.clone().into(), |last| last.key.clone());
            if !items.is_empty() {
                from.push(0);
            }
            let (from, end) = (&from, end_of(self.prefix.as_bytes()));
            let asked = self.members.call(|client| {
                let options = GetOptions::new()
                    .with_range(end.clone())
                    .with_limit(PAGE as i64)
                    .with_revision(revision);
                let mut keys = client.kv_client().max_decoding_message_size(PAGE_BYTES);
                async move { keys.get(from.clone(), Some(options)).await }
            });
            let mut page = asked.await?;
            if let Some(header) = page.header().filter(|_| revision == 0) {
                (cluster, revision) = (header.cluster_id(), header.revision());
            }
            items.extend(page.take_kvs().into_iter().map(item));
            if !page.more() || items.len() >= MAX_INSTANCES {
                break;
            }
        }
        let list = List { cluster, revision, items };
        let has_forgotten = match self.range.missing_in(&list) {
            Some(missing) => !self.remembers(&missing).await?,
            None => false,
        };
        self.range.list(list, has_forgotten, Instant::now(), self.delay);
        self.revision = revision;
        self.settle().await;
        self.show();
        Ok(())
    }

    /// False when etcd does not know what it told us at a former revision.
    async fn remembers(&self, missing: &Missing) -> Result<bool, Fault> {
        let asked = self.members.call(|mut client| {
            let options = GetOptions::new().with_revision(missing.revision);
            async move { client.get(missing.name.clone(), Some(options)).await }
        });
        match asked.await {
            Ok(then) => Ok(then.kvs().iter().any(|kv| kv.mod_revision() == missing.modified)),
            Err(fault) if fault.is_of_member() => Err(fault),
            // Compacted: its history is long, so it has not begun lately. A revision still to
            // come shows in the list's own.
            Err(_) => Ok(true),
        }
    }

    /// Finds out why entries have left. They are shown until that is known.
    async fn settle(&mut self) {
        let doubted = self.range.doubted();
        if doubted.is_empty() {
            return;
        }
        let lives = check_leases(&self.members, doubted).await;
        let now = Instant::now();
        let had_outage = self.members.had_outage(self.delay.reset, now);
        tracing::debug!(prefix = %self.prefix, ?lives, had_outage, "entries have left");
        self.range.settle(&lives, had_outage, now, self.delay);
    }

    async fn watch(&mut self) -> Fault {
        let opened = self.members.call_in_turn(|client| {
            let options = WatchOptions::new()
                .with_prefix()
                .with_fragment()
                .with_start_revision(self.revision + 1);
            let mut watches = client.watch_client().max_decoding_message_size(PAGE_BYTES);
            let prefix = self.prefix.clone();
            async move { watches.watch(prefix, Some(options)).await }
        });
        let (mut stream, turn) = match opened.await {
            Ok(opened) => opened,
            Err(fault) => return fault,
        };
        let mut probe = Probe::new(self.members.request_timeout());
        let mut list_due = next_list();
        // The time of an entry is over, and etcd was asked whether it has told everything.
        let mut is_confirming = false;
        loop {
            let expires = self.range.expires().filter(|_| !is_confirming);
            let expired = async {
                match expires {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                message = probe.next(&mut stream) => Event::Message(message),
                () = expired => Event::Expired,
                () = sleep_until(list_due) => Event::ListDue,
            };
            match event {
                Event::Message(first) => {
                    let told = self.take_all(first, &mut probe, &mut stream).await;
                    let is_all = match told {
                        Ok(is_all) => is_all,
                        Err(fault) => {
                            // What has left since is asked for when the list is there.
                            self.show();
                            if fault.is_of_member() {
                                self.members.give_up(turn, probe.asked());
                            }
                            return fault;
                        }
                    };
                    self.settle().await;
                    if is_all && std::mem::take(&mut is_confirming) {
                        self.range.expire(Instant::now());
                    }
                }
                Event::ListDue => {
                    if let Err(fault) = self.list().await {
                        return fault;
                    }
                    list_due = next_list();
                }
                // A process that was held up for longer than the grace finds the end of the grace
                // and what came meanwhile at once, and what came may bring them back.
                Event::Expired => match probe.ask(&mut stream).await {
                    Ok(()) => is_confirming = true,
                    Err(fault) => return fault,
                },
            }
            self.show();
        }
    }

    /// Takes one message in, and those that come soon after it. True when etcd said meanwhile that
    /// it has told everything that it knows.
    async fn take_all(
        &mut self,
        first: Result<WatchResponse, Fault>,
        probe: &mut Probe,
        stream: &mut WatchStream,
    ) -> Result<bool, Fault> {
        let until = Instant::now() + self.gather();
        let (mut message, mut is_all) = (first?, false);
        loop {
            is_all |= message.events().is_empty() && !message.created();
            self.take(&message)?;
            match timeout_at(until, probe.next(stream)).await {
                Ok(next) => message = next?,
                Err(_) => return Ok(is_all),
            }
        }
    }

    /// Takes one message in.
    fn take(&mut self, message: &WatchResponse) -> Result<(), Fault> {
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            match event.event_type() {
                EventType::Put => self.range.put_event(&item(kv.clone())),
                EventType::Delete => self.range.delete_event(kv.key(), kv.mod_revision()),
            }
        }
        if message.canceled() || message.compact_revision() > 0 {
            return Err(Fault::answer(format!("cancelled: {}", message.cancel_reason())));
        }
        Ok(())
    }

    fn gather(&self) -> Duration {
        (self.showing * GATHER_TIMES).clamp(GATHER, MAX_GATHER)
    }

    fn show(&mut self) {
        let begun = Instant::now();
        self.publisher.show(&self.prefix, self.range.instances());
        self.showing = begun.elapsed();
    }
}

fn item(kv: KeyValue) -> Item {
    let (modified, lease) = (kv.mod_revision(), kv.lease());
    let (key, value) = kv.into_key_value();
    Item { key, value, modified, lease }
}

/// The first key after all that begin with `prefix`, which ends with a slash.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Not all at the same moment: a fleet often starts at one.
fn next_list() -> Instant {
    Instant::now() + LIST_EVERY.mul_f64(0.75 + random::fraction() / 2.0)
}
