//! Consumers that use attach for what it is not for hurt themselves and nobody else.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_mux::{Attach, Credit, Event, MuxConfig, Open};
use sinew_plane::{
    Budget, BudgetUse, Code, Executed, IncomingRequest, InstanceId, ProcessId, ResponseSink,
    StreamId, Terminal, Window,
};
use sinew_transport_tcp::TcpServer;

use crate::{
    attach::{keeping, settings},
    fixture::{client, config, echo, open, server, soon, tcp_address, until},
    mux_peer::MuxPeer,
};

const WINDOW: Window = Window { items: 100, bytes: 4 << 10 };
const SECRET: u64 = 0x5EC2E7;

fn attach(id: StreamId, secret: u64, counter: u32) -> Attach {
    let credit = Credit { consumed: 0, items: WINDOW.items, bytes: WINDOW.bytes };
    Attach { id, secret, counter, next_item: 0, credit, origin: ProcessId::UNKNOWN }
}

fn begin(id: StreamId) -> Open {
    let mut open = Open::new(id, "test/tcp/echo", InstanceId(0), WINDOW);
    open.secret = SECRET;
    open
}

/// A server that keeps streams for three seconds, with this memory budget.
fn keeps(
    budget: &Arc<Budget>,
    handler: impl Fn(IncomingRequest<'_>, ResponseSink) + Send + Sync + 'static,
) -> TcpServer {
    let mut serving = settings(1);
    serving.driver.budget = Some(Arc::clone(budget));
    let [interval, timeout] = [1, 3].map(Duration::from_secs);
    let (keepalive_interval, keepalive_timeout) = (interval, timeout);
    serving.driver.mux = MuxConfig {
        keepalive_interval,
        keepalive_timeout,
        resume_grace: timeout,
        ..serving.driver.mux
    };
    server(serving, handler)
}

/// The next end, which has to be a refusal of an attach.
async fn refused(peer: &mut MuxPeer) -> Executed {
    let (_, terminal, _) = peer.next_end().await.unwrap();
    let Terminal::Failed { error } = terminal else { panic!("{terminal:?}") };
    assert_eq!(error.code(), Code::ResumeExpired, "{error}");
    error.executed()
}

async fn is_served(server: &TcpServer) {
    let honest = client(config());
    let mut response = open(&honest, &tcp_address(server), "still here").await.unwrap();
    assert_eq!(soon("the echo", response.next()).await.unwrap().unwrap(), "still here");
}

#[tokio::test]
async fn an_attach_for_a_stream_that_nobody_has_begun_is_refused_and_holds_nothing() {
    let budget = Budget::new(32 << 20);
    let server = keeps(&budget, echo);
    let mut peer = MuxPeer::greet_as(&server, ProcessId(7)).await;
    for _ in 0..100 {
        peer.outbound.attach(&attach(StreamId::random(), 1, 1)).unwrap();
        peer.write().await;
        assert_eq!(refused(&mut peer).await, Executed::No);
    }
    let besides = [BudgetUse::Buffers, BudgetUse::Connections, BudgetUse::Ids];
    let besides: usize = besides.map(|what| budget.used(what)).iter().sum();
    assert_eq!(budget.total() - besides, 0);
    is_served(&server).await;
}

/// The id alone, the secret of another stream, a counter that was used, another process: none of them
/// takes a stream away from its consumer, whatever endpoint it is of.
#[tokio::test]
async fn a_stream_is_not_taken_by_who_guesses() {
    let budget = Budget::new(32 << 20);
    let (mut sinks, handler) = keeping();
    let server = keeps(&budget, handler);
    let mut owner = MuxPeer::greet_as(&server, ProcessId(7)).await;
    let ids = [StreamId::random(), StreamId::random()];
    for id in ids {
        let mut open = begin(id);
        open.secret ^= id.0 as u64;
        owner.outbound.open(&open, &Bytes::new()).unwrap();
    }
    owner.write().await;
    let mut sink = soon("the request", sinks.recv()).await.unwrap();
    let _other = soon("the request", sinks.recv()).await.unwrap();
    let secrets = ids.map(|id| SECRET ^ id.0 as u64);
    // Of the same process, as anybody may say of himself.
    let mut thief = MuxPeer::greet_as(&server, ProcessId(7)).await;
    let guesses = [(0, 1), (1, 1), (secrets[0] ^ 1, 1), (secrets[1], 1), (secrets[0], 0)];
    for (secret, counter) in guesses {
        thief.outbound.attach(&attach(ids[0], secret, counter)).unwrap();
        thief.write().await;
        assert_ne!(refused(&mut thief).await, Executed::No);
    }
    // With all that it takes, but of another process.
    let mut stranger = MuxPeer::greet_as(&server, ProcessId(8)).await;
    stranger.outbound.attach(&attach(ids[0], secrets[0], 1)).unwrap();
    stranger.write().await;
    refused(&mut stranger).await;
    sink.send(Bytes::from("mine")).await.unwrap();
    loop {
        match soon("an item", owner.next()).await {
            Some(Event::Items { .. }) => break,
            Some(Event::Ended { .. }) | None => panic!("the stream was taken"),
            Some(_) => {}
        }
    }
}

/// Ten thousand attaches without effect in a second, and then ten thousand more, end the connection
/// on which they come.
#[tokio::test]
async fn a_storm_of_attaches_without_effect_ends_its_connection_alone() {
    let budget = Budget::new(32 << 20);
    let server = keeps(&budget, echo);
    let mut peer = MuxPeer::greet_as(&server, ProcessId(7)).await;
    let mut answered = 0;
    let ended = 'storm: loop {
        for _ in 0..500 {
            // The answer ends it, so that there is always room for another.
            peer.outbound.attach(&attach(StreamId::random(), 1, 1)).unwrap();
            peer.outbound.on_stream_ended();
        }
        if !peer.write().await {
            break None;
        }
        for _ in 0..500 {
            match peer.next().await {
                Some(Event::Ended { .. }) => answered += 1,
                Some(Event::GoAway { error, .. }) => break 'storm Some(error),
                Some(_) => {}
                None => break 'storm None,
            }
        }
        assert!(answered < 40_000, "nobody minds");
        if answered % 5_000 == 0 {
            is_served(&server).await;
        }
        assert!(budget.total() <= budget.limit());
    };
    if let Some(error) = ended {
        assert_eq!(error.code(), Code::Exhausted, "{error}");
    }
    // All streams of a connection may have been lost for good, which is no storm.
    assert!(answered >= 16_000, "{answered}");
    is_served(&server).await;
}

/// Sends small items for as long as they are taken.
fn pour(_: IncomingRequest<'_>, mut sink: ResponseSink) {
    tokio::spawn(async move {
        let item = Bytes::from(vec![7; 1 << 10]);
        while sink.send(item.clone()).await.is_ok() {}
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_detached_streams_with_full_windows_stay_within_the_budget() {
    const STREAMS: usize = 10_000;
    for mib in [32, 512] {
        let budget = Budget::new(mib << 20);
        let server =
            keeps(&budget, |request: IncomingRequest<'_>, sink: ResponseSink| {
                match request.body.is_empty() {
                    true => pour(request, sink),
                    false => echo(request, sink),
                }
            });
        let mut peer = MuxPeer::greet_as(&server, ProcessId(7)).await;
        for number in 0..STREAMS {
            peer.outbound.open(&begin(StreamId(1 + number as u128)), &Bytes::new()).unwrap();
            if number % 500 == 0 {
                peer.write().await;
                assert!(budget.total() <= budget.limit());
            }
        }
        peer.write().await;
        if mib == 512 {
            // What each has sent and nobody has acknowledged.
            let full = STREAMS * WINDOW.bytes as usize;
            until("full windows", || budget.used(BudgetUse::Kept) >= full).await;
        }
        assert!(budget.total() <= budget.limit());
        drop(peer);
        until("the loss", || server.connections() == 0).await;
        assert!(budget.total() <= budget.limit());
        is_served(&server).await;
        // Nobody comes back for them.
        until("them to be let go of", || budget.used(BudgetUse::Kept) == 0).await;
    }
}

#[tokio::test]
async fn what_a_detached_stream_keeps_is_charged_as_kept() {
    let budget = Budget::new(32 << 20);
    let mut serving = settings(1);
    serving.driver.budget = Some(Arc::clone(&budget));
    let server = server(serving, pour);
    let mut peer = MuxPeer::greet_as(&server, ProcessId(7)).await;
    peer.outbound.open(&begin(StreamId(1)), &Bytes::new()).unwrap();
    peer.write().await;
    // Of a slow stream first, which nobody reads.
    let full = WINDOW.bytes as usize;
    until("a full window", || budget.used(BudgetUse::Kept) >= full).await;
    drop(peer);
    until("the loss", || server.connections() == 0).await;
    assert!(budget.used(BudgetUse::Kept) >= full, "{}", budget.used(BudgetUse::Kept));
    let mut peer = MuxPeer::greet_as(&server, ProcessId(7)).await;
    peer.outbound.attach(&attach(StreamId(1), SECRET, 1)).unwrap();
    peer.write().await;
    loop {
        match soon("its items again", peer.next()).await {
            Some(Event::Items { .. }) => break,
            Some(Event::Ended { terminal, .. }) => panic!("{terminal:?}"),
            Some(_) => {}
            None => panic!("the connection is lost"),
        }
    }
    assert!(budget.used(BudgetUse::Kept) >= full);
}
