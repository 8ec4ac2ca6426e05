//! The wanted endpoints, with the number of interests in each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sinew_plane::EndpointName;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::snapshot_publisher::SnapshotPublisher;
use crate::{Interest, record};

/// Endpoints that are watched one by one. Whoever wants more watches all at once: one stream with
/// everything is then less than a stream for each.
const MAX_WANTED: usize = 256;

/// The endpoints to watch, and their places on the board.
pub(super) struct WatchedEndpoints {
    publisher: Arc<SnapshotPublisher>,
    /// How long one stays after the last who wanted it.
    linger: Duration,
    /// Ends the watches of single endpoints once everything is watched.
    stop_each: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By how many.
    each: HashMap<EndpointName, watch::Sender<usize>>,
    all: bool,
}

/// What a further interest asks for.
pub(super) enum Added {
    /// Nothing: it is watched already.
    Watched(Interest),
    /// A watch, as long as the count does not [expire](WatchedEndpoints::expire).
    New(Interest, watch::Receiver<usize>),
    /// To watch everything.
    TooMany,
}

impl WatchedEndpoints {
    pub(super) fn new(
        publisher: Arc<SnapshotPublisher>,
        linger: Duration,
        stop_each: CancellationToken,
    ) -> Self {
        Self { publisher, linger, stop_each, state: Mutex::default() }
    }

    /// Ends when nothing but everything is to be watched.
    pub(super) fn stop_each(&self) -> CancellationToken {
        self.stop_each.clone()
    }

    pub(super) fn add(&self, endpoint: &EndpointName) -> Added {
        let mut state = self.lock();
        if state.all {
            return Added::Watched(Interest::default());
        }
        if let Some(count) = state.each.get(endpoint) {
            return Added::Watched(interest(count));
        }
        if state.each.len() >= MAX_WANTED {
            return Added::TooMany;
        }
        let count = watch::Sender::new(0);
        let (want, counted) = (interest(&count), count.subscribe());
        state.each.insert(endpoint.clone(), count);
        self.publisher.begin(&prefix_of(endpoint));
        Added::New(want, counted)
    }

    /// Everything, for good. False when it is already.
    pub(super) fn add_all(&self) -> bool {
        let is_new = !std::mem::replace(&mut self.lock().all, true);
        if is_new {
            self.publisher.begin(&prefix_of_all());
        }
        is_new
    }

    /// Everything is on the board.
    pub(super) fn has_all(&self) {
        self.stop_each.cancel();
        self.publisher.keep_only(&prefix_of_all());
    }

    /// Ends when nobody has wanted the endpoint for a while; then it is off the board, too.
    pub(super) async fn expire(
        self: Arc<Self>,
        endpoint: EndpointName,
        mut counted: watch::Receiver<usize>,
    ) {
        loop {
            // Neither fails: the sender stays in the map until it is removed below.
            let _ = counted.wait_for(|count| *count == 0).await;
            let again = timeout(self.linger, counted.wait_for(|count| *count > 0));
            let is_wanted_again = matches!(again.await, Ok(Ok(_)));
            if is_wanted_again {
                continue;
            }
            let mut state = self.lock();
            // Whoever wants it counts itself under this lock.
            if *counted.borrow() == 0 {
                state.each.remove(&endpoint);
                return self.publisher.remove(&prefix_of(&endpoint));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn prefix_of(endpoint: &EndpointName) -> String {
    format!("{}/{endpoint}/", record::BUCKET)
}

pub(super) fn prefix_of_all() -> String {
    format!("{}/", record::BUCKET)
}

fn interest(count: &watch::Sender<usize>) -> Interest {
    count.send_modify(|count| *count += 1);
    Interest::new(CountedInterest(count.clone()))
}

/// One who wants an endpoint. Holds nothing that would keep the backend.
struct CountedInterest(watch::Sender<usize>);

impl Drop for CountedInterest {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(30);

    fn wanted() -> Arc<WatchedEndpoints> {
        let publisher = Arc::new(SnapshotPublisher::new());
        Arc::new(WatchedEndpoints::new(publisher, LINGER, CancellationToken::new()))
    }

    fn name(number: usize) -> EndpointName {
        format!("a/b/c{number}").parse().unwrap()
    }

    fn watched(wanted: &WatchedEndpoints) -> Interest {
        match wanted.add(&name(0)) {
            Added::Watched(want) => want,
            _ => panic!("it is watched already"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_lapses_a_while_after_the_last_who_wanted_it() {
        let wanted = wanted();
        let Added::New(first, counted) = wanted.add(&name(0)) else { panic!("it is new") };
        let mut expire = tokio::spawn(Arc::clone(&wanted).expire(name(0), counted));
        let second = watched(&wanted);
        drop((first.clone(), first));
        assert!(timeout(LINGER * 2, &mut expire).await.is_err(), "one still wants it");
        drop(second);
        assert!(timeout(LINGER / 2, &mut expire).await.is_err(), "it lingers");
        let third = watched(&wanted);
        assert!(timeout(LINGER * 2, &mut expire).await.is_err(), "it is wanted again");
        drop(third);
        timeout(LINGER * 2, expire).await.unwrap().unwrap();
        assert!(matches!(wanted.add(&name(0)), Added::New(..)), "and can be again");
    }

    #[test]
    fn so_many_are_wanted_one_by_one_and_then_all() {
        let wanted = wanted();
        let mut held = Vec::new();
        for number in 0..MAX_WANTED {
            let Added::New(want, _) = wanted.add(&name(number)) else { panic!("it is new") };
            held.push(want);
        }
        assert!(matches!(wanted.add(&name(MAX_WANTED)), Added::TooMany));
        assert!(wanted.add_all() && !wanted.add_all());
        assert!(matches!(wanted.add(&name(MAX_WANTED)), Added::Watched(_)));
    }
}
