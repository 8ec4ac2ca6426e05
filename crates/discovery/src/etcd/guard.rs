//! A watch on our own keys, which tells at once when one of them is taken away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use etcd_client::{EventType, WatchFilterType, WatchOptions, WatchStream};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    lease::backoff,
    members::{Fault, Members},
    probe::Probe,
};

/// The keys to guard, and those that were lost. Bounded by the number of registrations.
#[derive(Default)]
pub(super) struct Guard {
    state: Mutex<State>,
    /// There is a key that the stream does not watch yet.
    is_longer: Notify,
    is_lost: Notify,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<Vec<u8>, Key>,
    last_id: i64,
    lost: BTreeSet<Vec<u8>>,
}

struct Key {
    /// How the stream calls it; never used again.
    id: i64,
    /// The revision at which it stood; later ones are watched.
    since: i64,
    is_watched: bool,
}

impl Guard {
    pub(super) fn add(&self, key: Vec<u8>, since: i64) {
        let mut state = self.lock();
        if state.keys.contains_key(&key) {
            return;
        }
        state.last_id += 1;
        let id = state.last_id;
        state.keys.insert(key, Key { id, since, is_watched: false });
        drop(state);
        self.is_longer.notify_one();
    }

    /// What the stream still watches of it does no harm.
    pub(super) fn remove(&self, key: &[u8]) {
        self.lock().keys.remove(key);
    }

    /// Waits for keys that were lost, or may have been. Cancel-safe.
    pub(super) async fn lost(&self) -> BTreeSet<Vec<u8>> {
        loop {
            let lost = std::mem::take(&mut self.lock().lost);
            if !lost.is_empty() {
                return lost;
            }
            self.is_lost.notified().await;
        }
    }

    /// Watches until it is dropped.
    pub(super) async fn run(&self, members: &Arc<Members>) {
        let mut backoff = backoff();
        let mut was_watched = false;
        loop {
            while self.lock().keys.is_empty() {
                self.is_longer.notified().await;
            }
            let begun = Instant::now();
            let fault = self.watch(members, &mut was_watched).await;
            tracing::debug!(%fault, "the watch on our own keys has ended");
            sleep(backoff.pause_after(begun.elapsed())).await;
        }
    }

    async fn watch(&self, members: &Arc<Members>, was_watched: &mut bool) -> Fault {
        let opened = members.call_in_turn(|mut client| {
            self.forget_watches();
            let first = self.next_unwatched();
            async move {
                match first {
                    Some((key, options)) => client.watch(key, Some(options)).await.map(Some),
                    None => Ok(None),
                }
            }
        });
        let (mut stream, turn) = match opened.await {
            Ok((Some(stream), turn)) => (stream, turn),
            Ok((None, _)) => return Fault::answer("no key is left"),
            Err(fault) => return fault,
        };
        let mut probe = Probe::new(members.request_timeout());
        if let Err(fault) = self.watch_more(&mut stream).await {
            return fault;
        }
        if std::mem::replace(was_watched, true) {
            self.doubt_all();
        }
        loop {
            let heard = tokio::select! {
                heard = probe.next(&mut stream) => heard,
                () = self.is_longer.notified() => match self.watch_more(&mut stream).await {
                    Ok(()) => continue,
                    Err(fault) => Err(fault),
                },
            };
            match heard {
                Ok(message) => {
                    for event in message.events() {
                        if let (EventType::Delete, Some(kv)) = (event.event_type(), event.kv()) {
                            self.note_lost(kv.key());
                        }
                    }
                    if message.canceled() {
                        return Fault::answer(message.cancel_reason());
                    }
                }
                Err(fault) => {
                    if fault.is_of_member() {
                        members.give_up(turn, probe.asked());
                    }
                    return fault;
                }
            }
        }
    }

    async fn watch_more(&self, stream: &mut WatchStream) -> Result<(), Fault> {
        while let Some((key, options)) = self.next_unwatched() {
            let asked = stream.watch(key, Some(options)).await;
            asked.map_err(|error| Fault::of_member(error.to_string()))?;
        }
        Ok(())
    }

    fn next_unwatched(&self) -> Option<(Vec<u8>, WatchOptions)> {
        let mut state = self.lock();
        let (name, key) = state.keys.iter_mut().find(|(_, key)| !key.is_watched)?;
        key.is_watched = true;
        let mut options =
            WatchOptions::new().with_watch_id(key.id).with_filters([WatchFilterType::NoPut]);
        if key.since > 0 {
            options = options.with_start_revision(key.since + 1);
        }
        Some((name.clone(), options))
    }

    fn note_lost(&self, key: &[u8]) {
        let mut state = self.lock();
        if state.keys.contains_key(key) {
            state.lost.insert(key.to_vec());
            self.is_lost.notify_one();
        }
    }

    /// A new stream watches nothing yet.
    fn forget_watches(&self) {
        let mut state = self.lock();
        for key in state.keys.values_mut() {
            // What it was may have been compacted; what happened meanwhile is looked up instead.
            key.since = if std::mem::take(&mut key.is_watched) { 0 } else { key.since };
        }
    }

    /// After a time in which nobody watched everything has to be looked at.
    fn doubt_all(&self) {
        let mut state = self.lock();
        state.lost = state.keys.keys().cloned().collect();
        self.is_lost.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
