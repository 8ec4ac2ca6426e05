//! What peers can make a process hold, with a small memory budget.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_mux::MuxConfig;
use sinew_plane::{
    Budget, BudgetUse, Code, DuplexTransport, Error, Executed, Headers, IncomingRequest,
    ResponseSink, ResponseStream, Terminal, Window,
};
use sinew_transport_tcp::TcpConfig;
use tokio::{
    net::TcpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    fixture::{
        Keep, client, config, driver, echo, open, request, server, soon, tcp_address, until,
    },
    mux_peer::MuxPeer,
};

const MIB: usize = 1 << 20;
const WINDOW: Window = Window { items: 16_384, bytes: 1 << 20 };

fn budget(mib: usize) -> (Arc<Budget>, TcpConfig) {
    let budget = Budget::new(mib * MIB);
    let config = driver(|it| it.budget = Some(Arc::clone(&budget)));
    (budget, config)
}

/// What is held for requests and responses: without what is only kept for the next message, and
/// what connections cost by themselves.
fn held(budget: &Budget) -> usize {
    let besides = [BudgetUse::Buffers, BudgetUse::Connections, BudgetUse::Ids];
    budget.total() - besides.map(|what| budget.used(what)).iter().sum::<usize>()
}

/// Sends items of 16 KiB for as long as they are taken.
fn pour(_: IncomingRequest<'_>, mut sink: ResponseSink) {
    tokio::spawn(async move {
        let item = Bytes::from(vec![7; 16 << 10]);
        while sink.send(item.clone()).await.is_ok() {}
    });
}

#[tokio::test]
async fn bodies_that_never_end_are_refused_and_ended_and_new_ones_have_room() {
    let (budget, mut config) = budget(32);
    config.driver.mux = MuxConfig {
        keepalive_interval: Duration::from_millis(200),
        body_timeout: Duration::from_millis(500),
        ..config.driver.mux
    };
    let server = server(config, echo);
    let body = Bytes::from(vec![1; 3 * MIB]);
    let mut peers = Vec::new();
    for _ in 0..16 {
        let mut peer = MuxPeer::greet(&server).await;
        for _ in 0..2 {
            peer.open(&body, body.len() - (64 << 10), WINDOW).await;
            assert!(budget.total() <= budget.limit());
        }
        peers.push(peer);
    }
    for peer in &mut peers {
        for _ in 0..2 {
            let (_, terminal, _) = peer.next_end().await.expect("an answer, not a lost connection");
            let Terminal::Failed { error } = terminal else { panic!("{terminal:?}") };
            assert!(matches!(error.code(), Code::Overloaded | Code::Violation), "{error}");
            assert_eq!(error.executed(), Executed::No);
        }
    }
    until("what was held to be let go of", || held(&budget) == 0).await;
    let (honest, address) = (client(TcpConfig::default()), tcp_address(&server));
    let mut response = soon("room", honest.open(&address, request(body.clone()))).await.unwrap();
    let answer = soon("the echo", response.next()).await.unwrap().unwrap();
    assert_eq!(answer, body);
}

#[tokio::test]
async fn a_body_that_comes_along_slowly_is_not_ended() {
    let (_, mut config) = budget(32);
    config.driver.mux = MuxConfig {
        keepalive_interval: Duration::from_millis(20),
        body_timeout: Duration::from_millis(200),
        ..config.driver.mux
    };
    let server = server(config, echo);
    let mut peer = MuxPeer::greet(&server).await;
    let body = Bytes::from(vec![1; MIB]);
    let stream = peer.open(&body, 64 << 10, WINDOW).await.unwrap();
    let mut sent = 64 << 10;
    while sent < body.len() {
        // tidy-allow: sleep, this is how slow the peer is
        tokio::time::sleep(Duration::from_millis(50)).await;
        sent = peer.outbound.body_chunk(stream, &body, sent);
        assert!(peer.write().await);
    }
    let (ended, terminal, _) = peer.next_end().await.unwrap();
    assert!(matches!((ended, terminal), (it, Terminal::Complete { .. }) if it == stream));
}

#[tokio::test]
async fn whole_bodies_that_nobody_reads_are_charged_until_their_handlers_let_go() {
    let (budget, config) = budget(32);
    let (bodies, keep) = (Arc::new(parking_lot::Mutex::new(Vec::new())), Keep::default());
    let (kept, sinks) = (Arc::clone(&bodies), keep.clone());
    let server = server(config, move |request: IncomingRequest<'_>, sink: ResponseSink| {
        kept.lock().push(request.body);
        sinks.0.lock().unwrap().push(sink);
    });
    let body = Bytes::from(vec![1; 2 * MIB]);
    let (mut refused, mut peers) = (0, Vec::new());
    for _ in 0..16 {
        let before = bodies.lock().len();
        let mut peer = MuxPeer::greet(&server).await;
        peer.open(&body, body.len(), WINDOW).await;
        tokio::select! {
            () = until("the body to be taken", || bodies.lock().len() > before) => {}
            end = peer.next_end() => {
                let Some((_, Terminal::Failed { error }, _)) = end else { panic!("{end:?}") };
                assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));
                refused += 1;
            }
        }
        assert!(budget.total() <= budget.limit());
        assert!(held(&budget) >= bodies.lock().len() * 2 * MIB);
        peers.push(peer);
    }
    assert!(refused >= 2, "14 of them are 28 MiB: {refused}");
    drop(peers);
    assert!(held(&budget) > 20 * MIB, "the handlers have them still");
    bodies.lock().clear();
    keep.0.lock().unwrap().clear();
    until("the bodies to be let go of", || held(&budget) == 0).await;
}

/// Reads on at a slow pace, and says after each item how many came.
async fn read_slowly(
    mut stream: ResponseStream,
    budget: Arc<Budget>,
    read: watch::Sender<usize>,
) -> Result<(), Error> {
    while !read.is_closed() {
        let Some(item) = stream.next().await else { return Ok(()) };
        item?;
        assert!(budget.total() <= budget.limit());
        read.send_modify(|count| *count += 1);
        // tidy-allow: sleep, this is how slow the reader is
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_without_credit_are_ended_when_the_budget_stays_spent_and_no_others() {
    let (budget, config) = budget(8);
    let server = server(config, pour);
    let address = tcp_address(&server);
    let caller = client(TcpConfig::default());
    let honest = open(&caller, &address, "slow").await.unwrap();
    let (read, mut count) = watch::channel(0);
    let honest = tokio::spawn(read_slowly(honest, Arc::clone(&budget), read));
    // They read everything and acknowledge nothing.
    let (ended, mut ends) = mpsc::channel(64);
    let mut greedy = JoinSet::new();
    for _ in 0..8 {
        let mut peer = MuxPeer::greet(&server).await;
        for _ in 0..8 {
            peer.open(&Bytes::new(), 0, WINDOW).await;
        }
        let ended = ended.clone();
        greedy.spawn(async move {
            while let Some((_, terminal, _)) = peer.next_end().await {
                ended.send(terminal).await.unwrap();
            }
        });
    }
    loop {
        let terminal = soon("a stream to be ended for the others", ends.recv()).await.unwrap();
        let Terminal::Failed { error } = terminal else { panic!("{terminal:?}") };
        if error.code() == Code::Exhausted {
            assert_eq!(error.executed(), Executed::Yes);
            break;
        }
        // One that came when there was no room.
        assert_eq!(error.code(), Code::Overloaded, "{error}");
    }
    until("some to be ended for the others", || !budget.is_spent()).await;
    let before = *count.borrow_and_update();
    soon("the slow reader's items", count.wait_for(|count| *count >= before + 100)).await.unwrap();
    drop(count);
    soon("the slow reader", honest).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_left_alone_while_there_is_room() {
    let (budget, config) = budget(32);
    let server = server(config, pour);
    let mut peer = MuxPeer::greet(&server).await;
    peer.open(&Bytes::new(), 0, WINDOW).await;
    until("its window to be full", || budget.used(BudgetUse::Kept) >= MIB).await;
    let kept = budget.used(BudgetUse::Kept);
    // Longer than the budget's patience.
    // tidy-allow: sleep, that nothing happens can only be seen after some time
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(budget.used(BudgetUse::Kept), kept);
    drop(peer);
    until("what was kept to be let go of", || held(&budget) == 0).await;
}

#[tokio::test]
async fn what_a_worker_sends_to_a_slow_caller_is_bounded_too() {
    let server = server(config(), |_: IncomingRequest<'_>, mut sink: ResponseSink| {
        tokio::spawn(async move {
            let item = Bytes::from(vec![7; MIB]);
            while sink.send(item.clone()).await.is_ok() {}
        });
    });
    let (budget, mut config) = budget(8);
    config.driver.mux.window = Window { items: 1024, bytes: 1 << 20 };
    let client = client(config);
    let address = tcp_address(&server);
    let mut streams = Vec::new();
    for _ in 0..32 {
        streams.push(open(&client, &address, "x").await.unwrap());
    }
    let (mut ended, mut taken) = (0, 0);
    for mut stream in streams {
        // What is taken makes room for what comes, so some live on.
        for _ in 0..4 {
            match soon("an item or an end", stream.next()).await {
                Some(Ok(_)) => taken += 1,
                Some(Err(error)) => {
                    assert_eq!(error.code(), Code::Exhausted, "{error}");
                    ended += 1;
                    break;
                }
                None => panic!("an endless stream has ended"),
            }
            assert!(budget.total() <= budget.limit());
        }
    }
    assert!(ended > 0 && taken > 0, "{ended} ended, {taken} items taken");
    until("what waited to be let go of", || held(&budget) == 0).await;
}

#[tokio::test]
async fn heads_and_facts_that_nobody_reads_are_charged() {
    let mut large = Headers::new();
    large.insert("large", &"x".repeat(65_528)).unwrap();
    let server = server(config(), move |_: IncomingRequest<'_>, mut sink: ResponseSink| {
        sink.head(large.clone()).unwrap();
        sink.complete_with(large.clone());
    });
    let (budget, config) = budget(4);
    let client = client(config);
    let address = tcp_address(&server);
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(open(&client, &address, "").await.unwrap());
        assert!(budget.total() <= budget.limit());
    }
    let (mut ended, mut whole) = (0, 0);
    for stream in &mut streams {
        match soon("an end", stream.next()).await {
            Some(Ok(_)) => panic!("no item was sent"),
            Some(Err(error)) => {
                assert_eq!(error.code(), Code::Exhausted, "{error}");
                assert!(stream.facts().is_empty());
                ended += 1;
            }
            None => {
                assert_eq!(stream.facts().as_block().len(), 65_536);
                whole += 1;
            }
        }
        assert!(budget.total() <= budget.limit());
    }
    assert!(ended > 0 && whole > 0, "{ended} ended, {whole} whole");
    assert!(budget.used(BudgetUse::Queued) >= whole * (128 << 10));
    drop(streams);
    until("heads and facts to be let go of", || held(&budget) == 0).await;
}

#[tokio::test]
async fn a_connection_and_what_waits_to_be_written_on_it_are_charged() {
    let (budget, config) = budget(32);
    let server = server(config, |_: IncomingRequest<'_>, mut sink: ResponseSink| {
        tokio::spawn(async move {
            // Small enough to be copied behind its header.
            let item = Bytes::from(vec![7; 1 << 10]);
            while sink.send(item.clone()).await.is_ok() {}
        });
    });
    let mut peers = vec![MuxPeer::greet(&server).await, MuxPeer::greet(&server).await];
    let each = budget.used(BudgetUse::Connections) / 2;
    assert!((4 << 10..=16 << 10).contains(&each), "{each}");
    // Less than its share, with what is kept of them.
    for _ in 0..4 {
        peers[0].open(&Bytes::new(), 0, WINDOW).await;
    }
    // More than the free part: it has been copied, and the socket takes no more.
    until("copies to be charged", || budget.used(BudgetUse::Buffers) >= 128 << 10).await;
    drop(peers);
    until("everything to be let go of", || budget.total() == budget.used(BudgetUse::Ids)).await;
}

#[tokio::test]
async fn answers_that_a_peer_does_not_read_are_charged() {
    let (budget, mut config) = budget(4);
    config.driver.mux.max_streams = 1;
    let server = server(config, Keep::default().handler());
    // So that the kernel takes few of them.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let socket = socket.connect(server.local_address().unwrap()).await.unwrap();
    let mut peer = MuxPeer::greet_over(socket).await;
    let asking = async {
        // All but the first are refused, which it knows without reading.
        while peer.open(&Bytes::new(), 0, WINDOW).await.is_some() {
            peer.outbound.on_stream_ended();
        }
        panic!("the server has closed the connection")
    };
    tokio::select! {
        () = asking => {}
        () = until("answers to be charged", || budget.used(BudgetUse::Queued) >= 128 << 10) => {}
    }
    assert!(budget.total() <= budget.limit());
    drop(peer);
    until("them to be let go of", || budget.used(BudgetUse::Queued) == 0).await;
}

#[tokio::test]
async fn a_listener_has_no_more_connections_than_a_quarter_of_the_budget_pays_for() {
    let (budget, mut config) = budget(4);
    config.listen.max_connections_per_peer = Some(1_000);
    let server = server(config, echo);
    let places = budget.limit() / 4 / (8 << 10);
    let mut peers = Vec::new();
    for _ in 0..places {
        peers.push(MuxPeer::greet(&server).await);
    }
    assert_eq!(server.connections(), places);
    assert_eq!(budget.used(BudgetUse::Connections), budget.limit() / 4);
    // One more takes the place of the one that has been idle for longest.
    let mut last = MuxPeer::greet(&server).await;
    while peers[0].next().await.is_some() {}
    until("its place to be free", || server.connections() == places).await;
    assert!(last.open(&Bytes::new(), 0, WINDOW).await.is_some());
    assert!(matches!(last.next_end().await, Some((_, Terminal::Complete { .. }, _))));
}
