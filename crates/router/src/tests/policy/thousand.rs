//! A thousand streams that a policy moves to and fro.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_plane::{IncomingRequest, ManyOut, Outcome, ResponseSink, TransportId};
use sinew_testkit::within;
use sinew_transport_tcp::{TCP, UNIX};

use super::house::{House, number, to};

const STREAMS: usize = 1000;

/// The running streams with their handlers' ends, in the order in which they began.
#[derive(Default)]
struct Streams {
    kept: Arc<Mutex<Vec<ResponseSink>>>,
    all: Vec<(ManyOut<Bytes>, ResponseSink)>,
    next: u64,
}

impl Streams {
    fn handler(&self) -> impl Fn(IncomingRequest<'_>, ResponseSink) + use<> {
        let kept = Arc::clone(&self.kept);
        move |_, mut sink| {
            sink.accept();
            sink.flush();
            kept.lock().unwrap().push(sink);
        }
    }

    fn add(&mut self, response: ManyOut<Bytes>) {
        let sink = self.kept.lock().unwrap().pop().unwrap();
        self.all.push((response, sink));
    }

    /// One more item of each stream, and each is the next.
    async fn round(&mut self) {
        for (_, sink) in &mut self.all {
            within("room for an item", sink.send(self.next.to_be_bytes().to_vec().into()))
                .await
                .unwrap();
        }
        for (response, _) in &mut self.all {
            let item = within("an item", response.next()).await.unwrap().unwrap();
            assert_eq!(number(&item), self.next);
        }
        self.next += 1;
    }

    /// Rounds, until so many streams are on the transport. Returns how many were there, by round.
    async fn until(
        &mut self,
        house: &House,
        transport: &TransportId,
        streams: usize,
    ) -> Vec<usize> {
        let rounds = async {
            let mut there = vec![house.on(transport)];
            while *there.last().unwrap() != streams {
                self.round().await;
                assert_eq!(house.metric("plane_policy_rollbacks_total"), None);
                there.push(house.on(transport));
            }
            there
        };
        within("all streams to be moved", rounds).await
    }

    async fn complete(self) {
        for (mut response, sink) in self.all {
            sink.complete();
            assert!(within("the end", response.next()).await.is_none());
            assert!(matches!(response.outcome(), Some(Outcome::Complete { .. })));
        }
    }
}

#[tokio::test]
async fn a_thousand_running_streams_are_moved_in_shares_and_back_without_a_gap() {
    let mut streams = Streams::default();
    let house = House::new(streams.handler()).await;
    let mut moves = Vec::new();
    for _ in 0..STREAMS {
        let (response, explanation) = house.call().await;
        assert_eq!((&explanation.transport, explanation.policy.as_ref()), (&UNIX, None));
        streams.add(response);
        moves.push(explanation.moves);
    }
    assert_eq!((house.on(&UNIX), house.on(&TCP)), (STREAMS, 0));
    streams.round().await;

    let first = house.put(to(TCP, 100)).await.version;
    let there = streams.until(&house, &TCP, STREAMS).await;
    assert!(there.is_sorted(), "each share is larger: {there:?}");
    assert!(there.iter().any(|share| (1..=STREAMS / 4).contains(share)), "{there:?}");
    assert_eq!((house.moved_to("tcp"), house.moved_to("unix")), (STREAMS, 0));
    assert_eq!(house.on(&UNIX), 0);
    streams.round().await;

    let second = house.put(to(UNIX, 100)).await.version;
    streams.until(&house, &UNIX, STREAMS).await;
    assert_eq!((house.moved_to("tcp"), house.moved_to("unix")), (STREAMS, STREAMS));
    streams.round().await;

    for transport in ["tcp", "unix"] {
        let name = format!(
            "plane_policy_moves_total{{endpoint=\"test/policy/count\",to=\"{transport}\"}}"
        );
        assert_eq!(house.metric(&name), Some(1000.0));
    }
    assert_eq!(house.metric("plane_policy_share"), Some(100.0));
    assert_eq!(house.metric("plane_policy_rollbacks_total"), None);
    for moves in moves {
        let all = moves.all();
        let way: Vec<_> = all.iter().map(|it| (&it.from, &it.to, it.version)).collect();
        assert_eq!(way, [(&UNIX, &TCP, first), (&TCP, &UNIX, second)]);
        assert!(all[0].at_item > 0 && all[0].at_item <= all[1].at_item, "{all:?}");
        assert!(all[1].at_item <= streams.next && !all[0].is_rollback && !all[1].is_rollback);
    }
    streams.complete().await;
    house.ends();
}

#[tokio::test]
async fn a_part_of_the_streams_is_moved_and_a_smaller_part_later() {
    let mut streams = Streams::default();
    let house = House::new(streams.handler()).await;
    for _ in 0..200 {
        streams.add(house.call().await.0);
    }
    house.put(to(TCP, 50)).await;
    streams.until(&house, &TCP, 100).await;
    // New streams follow at once, in the same share.
    let mut over_tcp = 0;
    for _ in 0..100 {
        let (mut response, explanation) = house.call().await;
        assert_eq!(explanation.policy.is_some(), explanation.transport == TCP);
        over_tcp += usize::from(explanation.transport == TCP);
        let mut sink = streams.kept.lock().unwrap().pop().unwrap();
        sink.send(Bytes::from_static(b"only")).await.unwrap();
        assert_eq!(within("an item", response.next()).await.unwrap().unwrap(), "only");
        sink.complete();
        assert!(within("the end", response.next()).await.is_none());
    }
    assert_eq!(over_tcp, 50);
    house.put(to(TCP, 10)).await;
    streams.until(&house, &TCP, 20).await;
    assert_eq!((house.on(&UNIX), house.on(&TCP)), (180, 20));
    streams.round().await;
    streams.complete().await;
    house.ends();
}
