//! The list, and what a look at it sees.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    task::{self, Poll},
};

use parking_lot::Mutex;
use sinew_discovery::{Discovery, MemoryDiscovery};
use sinew_plane::{
    Context, EndpointName, Error, Headers, ItemBatch, ResponseSource, ResponseStream, SourceEvent,
    StopKind, StreamPlace,
};
use sinew_registry::{LocalEndpoints, LocalProcess, TransportRegistry};

use super::*;
use crate::policy::health::{Ends, Flow};

const HERE: TransportId = TransportId::from_static("here");
const THERE: TransportId = TransportId::from_static("there");

/// A source that says where it is.
struct Source {
    transport: Mutex<TransportId>,
    items: AtomicU64,
    untaken: AtomicU64,
}

impl Source {
    fn go_on(&self, items: u64) {
        self.items.fetch_add(items, Ordering::Relaxed);
    }
}

impl ResponseSource for Source {
    fn poll_started(&self, _: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_head(&self, _: &mut task::Context<'_>) -> Poll<Headers> {
        Poll::Pending
    }

    fn facts(&self) -> Headers {
        Headers::new()
    }

    fn poll_batch(&self, _: &mut task::Context<'_>, _: &mut ItemBatch) -> Poll<SourceEvent> {
        Poll::Pending
    }

    fn cancel(&self, _: StopKind) {}

    fn place(&self) -> Option<StreamPlace> {
        let items = self.items.load(Ordering::Relaxed);
        let taken = items.saturating_sub(self.untaken.load(Ordering::Relaxed));
        Some(StreamPlace { transport: self.transport.lock().clone(), items, taken })
    }

    fn abandon(&self) {}
}

struct List {
    running: Arc<Running>,
    client: Client,
}

/// A stream in the list, with what keeps it there.
struct Stream {
    source: Arc<Source>,
    kept: Kept,
    _stream: ResponseStream,
}

impl List {
    async fn new() -> Self {
        let endpoint: EndpointName = "a/b/c".parse().unwrap();
        let view = MemoryDiscovery::new().watch().await.unwrap();
        let registry = Arc::new(TransportRegistry::new());
        let (locals, here) = (LocalEndpoints::new(), LocalProcess::default());
        let client = Client::new(endpoint, view, registry, locals, here);
        Self { running: Arc::default(), client }
    }

    fn add(&self, transport: TransportId, is_pinned: bool) -> Stream {
        let (items, untaken) = (AtomicU64::new(0), AtomicU64::new(0));
        let source = Arc::new(Source { transport: Mutex::new(transport.clone()), items, untaken });
        let stream = ResponseStream::new(Arc::clone(&source) as _, Context::new());
        let kept = self.running.add(Begun {
            stream: stream.running().unwrap(),
            client: self.client.clone(),
            instance: InstanceId(1),
            transport,
            is_pinned,
            moves: TransportMoves::default(),
        });
        Stream { source, kept, _stream: stream }
    }

    /// Moves a stream, as the task does.
    fn brings(&self, stream: &Stream) {
        *stream.source.transport.lock() = THERE;
        let moved = self.running.with(stream.kept.key, |entry, _| {
            entry.transport = THERE;
            entry.came = Came::From(HERE);
        });
        assert!(moved.is_some());
    }

    fn look(&self) -> Interval {
        self.running.look(&THERE, 1.0).0
    }
}

#[tokio::test]
async fn a_place_is_used_again_and_what_was_known_of_it_says_nothing_of_the_next() {
    let list = List::new().await;
    let first = list.add(HERE, false);
    let key = first.kept.key;
    let second = list.add(HERE, false);
    drop(first);
    let third = list.add(HERE, false);
    assert_eq!((third.kept.key.place, list.running.len()), (key.place, 2));
    assert!(list.running.with(key, |_, _| ()).is_none(), "another stream has its place");
    assert!(list.running.with(third.kept.key, |_, _| ()).is_some());
    drop((second, third));
    assert_eq!(list.running.len(), 0);
    assert_eq!(list.running.0.lock().places.len(), 2);
}

#[tokio::test]
async fn more_streams_than_one_lock_takes_are_all_seen() {
    let list = List::new().await;
    let all: Vec<_> = (0..AT_ONCE * 2 + 1).map(|_| list.add(HERE, false)).collect();
    let mut seen = 0;
    list.running.each(|_, _, _| seen += 1);
    assert_eq!(seen, all.len());
}

#[tokio::test]
async fn a_moved_stream_is_measured_by_its_own_past() {
    let list = List::new().await;
    let (one, other) = (list.add(HERE, false), list.add(HERE, false));
    list.running.begin(&THERE);
    list.look();
    one.source.go_on(10);
    other.source.go_on(100);
    assert_eq!(list.look(), Interval::default(), "the first interval is the past");
    list.brings(&one);
    one.source.go_on(5);
    other.source.go_on(100);
    let of_two_places = list.look();
    assert_eq!(of_two_places.moved, Flow::default());
    let stayed = Flow { streams: 1, seconds: 1.0, items: 100, due: 100.0, known_from: 100 };
    assert_eq!(of_two_places.stayed, stayed);
    one.source.go_on(7);
    other.source.go_on(50);
    let Interval { moved, stayed, left, .. } = list.look();
    assert_eq!(moved, Flow { streams: 1, seconds: 1.0, items: 7, due: 10.0, known_from: 10 });
    assert_eq!((stayed.items, stayed.due, left), (50, 100.0, 0));
}

#[tokio::test]
async fn an_interval_in_which_the_reader_takes_nothing_says_nothing() {
    let list = List::new().await;
    let stream = list.add(HERE, false);
    list.running.begin(&THERE);
    list.look();
    stream.source.go_on(10);
    list.look();
    stream.source.go_on(8);
    stream.source.untaken.store(8, Ordering::Relaxed);
    assert_eq!(list.look(), Interval::default());
    assert_eq!(list.look(), Interval::default());
    stream.source.go_on(1);
    stream.source.untaken.store(1, Ordering::Relaxed);
    assert_eq!(list.look().stayed.items, 1);
}

#[tokio::test]
async fn streams_that_begin_under_a_policy_are_a_group_from_their_first_item_on() {
    let list = List::new().await;
    list.running.begin(&THERE);
    let (there, elsewhere) = (list.add(THERE, true), list.add(HERE, false));
    for items in [0, 3] {
        list.look();
        there.source.go_on(items);
        elsewhere.source.go_on(items);
    }
    let waited = list.look();
    assert_eq!((waited.began_there.streams, waited.began_elsewhere.streams), (0, 0));
    there.source.go_on(4);
    elsewhere.source.go_on(5);
    let Interval { began_there, began_elsewhere, .. } = list.look();
    assert_eq!((began_there.streams, began_there.items), (1, 4));
    assert_eq!((began_elsewhere.streams, began_elsewhere.items), (1, 5));
}

#[tokio::test]
async fn a_stream_that_lost_its_connection_there_has_left() {
    let list = List::new().await;
    let stream = list.add(HERE, false);
    list.running.begin(&THERE);
    list.brings(&stream);
    assert_eq!(list.look().left, 0);
    *stream.source.transport.lock() = HERE;
    assert_eq!(list.look().left, 1);
    assert_eq!(list.look().left, 0, "once");
    // One that did not get there has not left it.
    let _elsewhere = list.add(HERE, true);
    assert_eq!(list.look().left, 0);
    assert_eq!(list.running.look(&THERE, 1.0).1.attempts, Ends { ended: 1, failed: 1 });
}

#[tokio::test]
async fn a_move_that_failed_counts_if_the_worker_lives() {
    let list = List::new().await;
    let stream = list.add(HERE, false);
    list.running.begin(&THERE);
    let attempts = || list.running.look(&THERE, 1.0).1.attempts;
    attempts();
    list.running.with(stream.kept.key, |entry, _| entry.has_failed = true);
    assert_eq!(attempts(), Ends::default());
    stream.source.go_on(1);
    assert_eq!(attempts(), Ends { ended: 1, failed: 1 });
    stream.source.go_on(1);
    assert_eq!(attempts(), Ends { ended: 1, failed: 1 });
}

#[tokio::test]
async fn ends_count_where_the_stream_was_and_losses_after_a_sign_of_life() {
    let list = List::new().await;
    list.add(HERE, false).kept.ended(true);
    list.add(HERE, false).kept.ended(false);
    list.running.begin(&THERE);
    let lives = list.add(THERE, true);
    list.add(THERE, true).kept.ended(true);
    list.add(HERE, false).kept.ended(false);
    drop(list.add(THERE, true));
    lives.source.go_on(1);
    let ends = || list.running.look(&THERE, 1.0).1;
    let seen = ends();
    assert_eq!(seen.before, Ends { ended: 2, failed: 1 }, "the next stream was the sign");
    assert_eq!(seen.there, Ends { ended: 1, failed: 1 }, "so it was for the second loss");
    assert_eq!(seen.elsewhere, Ends { ended: 1, failed: 0 });
    list.add(THERE, true).kept.ended(true);
    assert_eq!(ends().there.failed, 1, "nobody has shown that the worker lives");
    lives.source.go_on(1);
    assert_eq!(ends().there.failed, 2);
}
