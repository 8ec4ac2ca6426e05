//! A watch on the keys of this process, which reports at once when one of them is deleted.
//!
//! One watch covers the range from the first endpoint to the last, however many there are. It
//! delivers only deletions, so it gets few events of other processes in that range.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use etcd_client::{EventType, WatchFilterType, WatchOptions, WatchResponse, WatchStream};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    lease::retries,
    members::{Fault, Members},
    probe::Probe,
    range_watcher::end_of,
};

/// The keys to guard, and those that were lost. Bounded by the number of registrations.
#[derive(Default)]
pub(super) struct OwnKeyWatch {
    state: Mutex<State>,
    /// There is a key that the stream does not watch yet.
    is_longer: Notify,
    is_lost: Notify,
}

#[derive(Default)]
struct State {
    keys: BTreeSet<Vec<u8>>,
    /// Those that no watch is asked for yet, and the revision at which each stood; later ones are
    /// watched.
    fresh: BTreeMap<Vec<u8>, i64>,
    /// What the stream watches: from the first key to before the last.
    span: Option<(Vec<u8>, Vec<u8>)>,
    /// The first revision that it tells of, as far as is known.
    first_revision: Option<i64>,
    /// How the stream calls the watch; never used again.
    id: i64,
    lost: BTreeSet<Vec<u8>>,
}

/// A watch to ask for.
struct Span {
    id: i64,
    from: Vec<u8>,
    to: Vec<u8>,
    /// The first revision to tell of; the next one when `None`.
    first_revision: Option<i64>,
}

impl Span {
    fn options(&self) -> WatchOptions {
        let options = WatchOptions::new()
            .with_range(self.to.clone())
            .with_watch_id(self.id)
            .with_filters([WatchFilterType::NoPut]);
        match self.first_revision {
            Some(first) => options.with_start_revision(first),
            None => options,
        }
    }
}

/// The key as far as its last slash: what all instances of the endpoint begin with.
fn endpoint_of(key: &[u8]) -> &[u8] {
    let end = key.iter().rposition(|byte| *byte == b'/').map_or(key.len(), |slash| slash + 1);
    &key[..end]
}

impl OwnKeyWatch {
    pub(super) fn add(&self, key: Vec<u8>, since: i64) {
        let mut state = self.lock();
        if !state.keys.insert(key.clone()) {
            return;
        }
        state.fresh.insert(key, since);
        drop(state);
        self.is_longer.notify_one();
    }

    /// What the stream still watches of it does no harm.
    pub(super) fn remove(&self, key: &[u8]) {
        let mut state = self.lock();
        state.keys.remove(key);
        state.fresh.remove(key);
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
        let mut retries = retries();
        let mut was_watched = false;
        loop {
            while self.lock().keys.is_empty() {
                self.is_longer.notified().await;
            }
            let begun = Instant::now();
            let fault = self.watch(members, &mut was_watched).await;
            tracing::debug!(%fault, "the watch on our own keys has ended");
            sleep(retries.pause_after(begun.elapsed())).await;
        }
    }

    async fn watch(&self, members: &Arc<Members>, was_watched: &mut bool) -> Fault {
        let opened = members.call_in_turn(|mut client| {
            self.forget_watch();
            let span = self.next_span();
            async move {
                match span {
                    Some(span) => {
                        let options = span.options();
                        client.watch(span.from, Some(options)).await.map(Some)
                    }
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
                biased;
                () = self.is_longer.notified() => match self.watch_more(&mut stream).await {
                    Ok(()) => continue,
                    Err(fault) => Err(fault),
                },
                heard = probe.next(&mut stream) => heard,
            };
            match heard {
                Ok(message) => {
                    self.note_begun(&message);
                    for event in message.events() {
                        if let (EventType::Delete, Some(kv)) = (event.event_type(), event.kv()) {
                            self.note_lost(kv.key());
                        }
                    }
                    // One that was replaced by a wider one ends as asked.
                    if message.canceled() && message.watch_id() == self.lock().id {
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
        while let Some(span) = self.next_span() {
            let former = span.id - 1;
            let options = span.options();
            let asked = stream.watch(span.from, Some(options)).await;
            asked.map_err(|error| Fault::of_member(error.to_string()))?;
            // Only now, so that nothing goes unseen in between.
            let ended = stream.cancel(former).await;
            ended.map_err(|error| Fault::of_member(error.to_string()))?;
        }
        Ok(())
    }

    /// The watch to ask for, when there are keys that are not watched.
    fn next_span(&self) -> Option<Span> {
        let mut state = self.lock();
        let state = &mut *state;
        let fresh = std::mem::take(&mut state.fresh);
        let (first, last) = (fresh.first_key_value()?.0, fresh.last_key_value()?.0);
        let (from, to) = (endpoint_of(first).to_vec(), end_of(endpoint_of(last)));
        // Of those for which it is known; the others are watched from about now on.
        let since = fresh.values().copied().filter(|since| *since > 0).min();
        if let Some((known_from, known_to)) = &state.span {
            let is_within = *known_from <= from && to <= *known_to;
            // Watched from before it was put there, so that nothing of it goes unseen.
            let is_seen = since
                .is_none_or(|since| state.first_revision.is_some_and(|first| first <= since + 1));
            if is_within && is_seen {
                return None;
            }
        }
        let (from, to) = match state.span.take() {
            Some((known_from, known_to)) => (known_from.min(from), known_to.max(to)),
            None => (from, to),
        };
        state.id += 1;
        state.span = Some((from.clone(), to.clone()));
        state.first_revision = since.map(|since| since + 1);
        Some(Span { id: state.id, from, to, first_revision: state.first_revision })
    }

    fn note_begun(&self, message: &WatchResponse) {
        let mut state = self.lock();
        if message.created() && message.watch_id() == state.id {
            let next = message.header().map(|header| header.revision() + 1);
            state.first_revision = state.first_revision.or(next);
        }
    }

    fn note_lost(&self, key: &[u8]) {
        let mut state = self.lock();
        if state.keys.contains(key) {
            state.lost.insert(key.to_vec());
            self.is_lost.notify_one();
        }
    }

    /// A new stream watches nothing yet. What its keys were may have been compacted; what happened
    /// meanwhile is looked up instead.
    fn forget_watch(&self) {
        let mut state = self.lock();
        state.span = None;
        let State { keys, fresh, .. } = &mut *state;
        for key in keys.iter() {
            fresh.entry(key.clone()).or_insert(0);
        }
    }

    /// After a time in which nobody watched everything has to be looked at.
    fn doubt_all(&self) {
        let mut state = self.lock();
        state.lost = state.keys.clone();
        self.is_lost.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Vec<u8> {
        format!("v1/instances/{name}").into_bytes()
    }

    fn span(own_keys: &OwnKeyWatch) -> Option<(String, String, Option<i64>)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        own_keys.next_span().map(|span| (text(span.from), text(span.to), span.first_revision))
    }

    #[test]
    fn one_watch_spans_all_keys_and_is_asked_for_again_only_to_become_wider() {
        let own_keys = OwnKeyWatch::default();
        for id in 0..1000 {
            own_keys.add(key(&format!("a/b/m/{id:x}")), 40 + id);
        }
        let first = span(&own_keys).unwrap();
        let expected = ("v1/instances/a/b/m/".into(), "v1/instances/a/b/m0".into(), Some(41));
        assert_eq!(first, expected);
        for id in 0..1000 {
            own_keys.add(key(&format!("a/b/m/f{id:x}")), 2000 + id);
        }
        assert_eq!(span(&own_keys), None, "within it, and put there since it began");
        own_keys.add(key("a/b/c/1"), 3000);
        let (from, to, first) = span(&own_keys).unwrap();
        assert_eq!((&*from, &*to), ("v1/instances/a/b/c/", "v1/instances/a/b/m0"));
        assert_eq!(first, Some(3001));
        own_keys.add(key("a/b/m/later"), 2999);
        assert!(span(&own_keys).is_some(), "it may have gone before the watch begins");
        own_keys.add(key("a/b/d/1"), 4000);
        assert_eq!(span(&own_keys), None);
        own_keys.forget_watch();
        let (from, to, first) = span(&own_keys).unwrap();
        assert_eq!((&*from, &*to), ("v1/instances/a/b/c/", "v1/instances/a/b/m0"));
        assert_eq!(first, None, "another stream: from now on");
    }
}
