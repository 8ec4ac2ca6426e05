//! Streams that go on over another address, another kind of socket, or beside a connection that is
//! up.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use sinew_mux::MuxConfig;
use sinew_plane::{
    Address, Code, ConnectionEvent, ConnectionEvents, DuplexServer, DuplexTransport, Outcome,
    ResponseSink, ResumeReason, Way, Ways, Window,
};
use sinew_transport_tcp::{TcpConfig, TcpServer, TcpTransport};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    attach::{ITEMS, count, keeping, read, settings},
    fixture::{request, soon, until},
    gate::{Gate, passing_one},
};

/// What a client was told, as lines.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<ConnectionEvent>>>);

impl Heard {
    fn events(&self) -> ConnectionEvents {
        let heard = Arc::clone(&self.0);
        ConnectionEvents::to(Arc::new(move |event: &ConnectionEvent| {
            heard.lock().unwrap().push(event.clone());
        }))
    }

    /// Attached streams, by the reason.
    fn attached(&self, because: ResumeReason) -> usize {
        let heard = self.0.lock().unwrap();
        let streams = heard.iter().map(|event| match event {
            ConnectionEvent::Attached { streams, reason, .. } if *reason == because => *streams,
            _ => 0,
        });
        streams.sum()
    }

    fn kinds(&self) -> Vec<&'static str> {
        let kind = |event: &ConnectionEvent| match event {
            ConnectionEvent::Connected { .. } => "connected",
            ConnectionEvent::Lost { .. } => "lost",
            ConnectionEvent::Attached { .. } => "attached",
            ConnectionEvent::GaveUp { .. } => "gave up",
            _ => "other",
        };
        self.0.lock().unwrap().iter().map(kind).collect()
    }
}

/// The ways to one instance.
struct Known(Arc<[Way]>);

impl Ways for Known {
    fn ways(&self, address: &Address) -> Arc<[Way]> {
        let is_one = self.0.iter().any(|way| way.address == *address);
        if is_one { Arc::clone(&self.0) } else { Arc::default() }
    }
}

/// A server behind a gate for each kind of socket, and clients that know both.
struct House {
    server: TcpServer,
    unix: (Gate, TcpTransport),
    tcp: (Gate, TcpTransport),
    heard: Heard,
    _folder: TempDir,
}

impl House {
    async fn with(
        calling: MuxConfig,
        handler: impl Fn(sinew_plane::IncomingRequest<'_>, ResponseSink) + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut serving = settings(1);
        serving.unix_dir = Some(folder.path().join("sockets"));
        let server = crate::fixture::server(serving, handler);
        let heard = Heard::default();
        let client = || {
            let mut config = TcpConfig::default();
            config.driver.mux = MuxConfig { process: sinew_plane::ProcessId(2), ..calling.clone() };
            config.driver.events = heard.events();
            config.checked().unwrap()
        };
        let (unix, tcp) = (TcpTransport::unix(client()), TcpTransport::new(client()));
        let gates = (Gate::unix(&server, folder.path()), Gate::tcp(&server).await);
        let way = |gate: &Gate, transport: &TcpTransport| Way {
            transport: Arc::new(transport.clone()),
            address: gate.address.clone(),
        };
        let ways = Arc::new(Known([way(&gates.0, &unix), way(&gates.1, &tcp)].into()));
        unix.find_ways(Arc::clone(&ways) as _);
        tcp.find_ways(ways);
        let (unix, tcp) = ((gates.0, unix), (gates.1, tcp));
        Self { server, unix, tcp, heard, _folder: folder }
    }

    /// The way over one kind of socket, and the one over the other.
    fn ways(&self, from_unix: bool) -> [&(Gate, TcpTransport); 2] {
        if from_unix { [&self.unix, &self.tcp] } else { [&self.tcp, &self.unix] }
    }

    fn way(&self, is_unix: bool) -> Way {
        let (gate, transport) = self.ways(is_unix)[0];
        Way { transport: Arc::new(transport.clone()), address: gate.address.clone() }
    }
}

/// A stream with one item, and its handler's end.
async fn begun(
    (gate, client): &(Gate, TcpTransport),
    sinks: &mut UnboundedReceiver<ResponseSink>,
) -> (sinew_plane::ResponseStream, ResponseSink) {
    let mut stream = client.open(&gate.address, request("")).await.unwrap();
    let mut sink = soon("the request", sinks.recv()).await.unwrap();
    sink.send(Bytes::from("one")).await.unwrap();
    assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "one");
    (stream, sink)
}

#[tokio::test]
async fn a_stream_whose_address_is_gone_goes_on_over_the_other_kind_of_socket() {
    for from_unix in [true, false] {
        let (mut sinks, handler) = keeping();
        let house = House::with(MuxConfig::default(), handler).await;
        let [from, to] = house.ways(from_unix);
        let (mut stream, mut sink) = begun(from, &mut sinks).await;
        from.0.close();
        sink.send(Bytes::from("two")).await.unwrap();
        assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "two");
        assert_eq!((from.1.connections(), to.1.connections()), (0, 1));
        // And from there it is cut once more, and comes back to the same address.
        to.0.cut();
        sink.send(Bytes::from("three")).await.unwrap();
        sink.complete();
        assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "three");
        assert!(soon("the end", stream.next()).await.is_none());
        assert!(matches!(stream.outcome(), Some(Outcome::Complete { items: 3 })));
        let kinds = house.heard.kinds();
        let expected =
            ["connected", "lost", "connected", "attached", "lost", "connected", "attached"];
        assert_eq!(kinds, expected);
        assert_eq!(house.heard.attached(ResumeReason::Lost), 2);
    }
}

#[tokio::test]
async fn a_connection_that_is_up_takes_the_streams_of_one_that_is_lost() {
    let (mut sinks, handler) = keeping();
    let house = House::with(MuxConfig::default(), handler).await;
    let (_other, _sink) = begun(&house.tcp, &mut sinks).await;
    let (mut stream, mut sink) = begun(&house.unix, &mut sinks).await;
    house.unix.0.cut();
    sink.send(Bytes::from("two")).await.unwrap();
    assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "two");
    // Nothing was dialled for it.
    assert_eq!(house.heard.kinds(), ["connected", "connected", "lost", "attached"]);
    assert_eq!(house.unix.1.connections(), 0);
}

#[tokio::test]
async fn streams_end_at_once_when_no_address_has_a_listener_and_say_so() {
    let (mut sinks, handler) = keeping();
    let house = House::with(MuxConfig::default(), handler).await;
    let (mut stream, _sink) = begun(&house.unix, &mut sinks).await;
    house.tcp.0.close();
    house.unix.0.close();
    let error = soon("the end", stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Truncated, "{error}");
    let text = error.to_string();
    for gate in [&house.unix.0, &house.tcp.0] {
        assert!(text.contains(&format!("nobody listens at {}", gate.address)), "{text}");
    }
    assert!(matches!(stream.outcome(), Some(Outcome::Truncated { received: 1 })));
    assert_eq!(house.heard.kinds(), ["connected", "lost", "gave up"]);
}

#[tokio::test]
async fn a_silent_connection_is_found_by_its_keep_alive_and_its_streams_go_on() {
    let (mut sinks, handler) = keeping();
    let calling = MuxConfig {
        keepalive_interval: Duration::from_millis(50),
        keepalive_timeout: Duration::from_millis(200),
        ..MuxConfig::default()
    };
    let house = House::with(calling, handler).await;
    let (mut stream, mut sink) = begun(&house.tcp, &mut sinks).await;
    house.tcp.0.stall();
    // The worker notices nothing, and what it sends is lost on the way.
    sink.send(Bytes::from("two")).await.unwrap();
    assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "two");
    sink.send(Bytes::from("three")).await.unwrap();
    assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "three");
    assert_eq!(house.heard.attached(ResumeReason::Silence), 1);
}

#[tokio::test]
async fn streams_leave_a_connection_whose_peer_says_goaway_and_takes_others() {
    let (mut sinks, handler) = keeping();
    let house = House::with(MuxConfig::default(), handler).await;
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(begun(&house.tcp, &mut sinks).await);
    }
    house.server.mux().drain();
    until("the streams to move", || house.heard.attached(ResumeReason::Goaway) == 10).await;
    for (stream, sink) in &mut all {
        sink.send(Bytes::from("two")).await.unwrap();
        assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "two");
    }
    // Nothing is left on the connection that was drained: cut, it is missed by no stream.
    assert_eq!(house.heard.kinds(), ["connected", "connected", "attached"]);
}

/// What a server that drains is asked for over TCP, through one connection or through many.
async fn drained(through_one: bool) -> Vec<&'static str> {
    let (mut sinks, handler) = keeping();
    let server = crate::fixture::server(settings(1), handler);
    let heard = Heard::default();
    let mut calling = settings(2);
    calling.driver.events = heard.events();
    let client = TcpTransport::new(calling.checked().unwrap());
    let address = match through_one {
        true => passing_one(&server).await,
        false => crate::fixture::tcp_address(&server),
    };
    let mut stream = client.open(&address, request("")).await.unwrap();
    let mut sink = soon("the request", sinks.recv()).await.unwrap();
    sink.send(Bytes::from("one")).await.unwrap();
    soon("an item", stream.next()).await.unwrap().unwrap();
    server.drain();
    if through_one {
        until("the goaway", || client.connections() == 0).await;
    } else {
        until("the move", || heard.attached(ResumeReason::Goaway) == 1).await;
    }
    sink.send(Bytes::from("two")).await.unwrap();
    sink.complete();
    assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "two");
    assert!(soon("the end", stream.next()).await.is_none());
    heard.kinds()
}

#[tokio::test]
async fn streams_stay_where_a_peer_that_says_goaway_takes_no_connection() {
    assert_eq!(drained(true).await, ["connected"]);
}

/// They could come back there as well, had they lost their connection.
#[tokio::test]
async fn streams_move_to_a_new_connection_of_a_server_that_drains() {
    assert_eq!(drained(false).await, ["connected", "connected", "attached"]);
}

/// A thousand streams need no thousand dials, and no thousand writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_streams_of_a_lost_connection_are_attached_together() {
    let (mut sinks, handler) = keeping();
    let house = House::with(MuxConfig::default(), handler).await;
    let mut all = Vec::new();
    for _ in 0..1_000 {
        all.push(begun(&house.tcp, &mut sinks).await);
    }
    let before = house.tcp.1.writes();
    house.tcp.0.cut();
    until("the streams to be attached", || house.heard.attached(ResumeReason::Lost) == 1_000).await;
    let writes = house.tcp.1.writes() - before;
    assert!(writes < 20, "{writes} writes");
    assert_eq!(house.heard.kinds(), ["connected", "lost", "connected", "attached"]);
    for (stream, sink) in &mut all {
        sink.send(Bytes::from("two")).await.unwrap();
        assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "two");
    }
    // Also those that had nothing to send said that they are there, which is no flood.
    assert_eq!(house.tcp.1.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_move_between_unix_sockets_and_tcp_and_back_while_their_items_flow() {
    let house = House::with(MuxConfig::default(), count).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut asked = request("");
        // So that it takes many round trips.
        asked.window = Some(Window { items: 8, bytes: 1 << 20 });
        let mut stream = house.unix.1.open(&house.unix.0.address, asked).await.unwrap();
        soon("the start", stream.started()).await.unwrap();
        streams.push(stream);
    }
    let mut reading = std::pin::pin!(join_all(streams.into_iter().map(read)));
    let moving = async {
        // Far from what a server takes for a flood of attaches.
        for round in 0..200_usize {
            let is_unix = round.is_multiple_of(2);
            let [from, _] = house.ways(is_unix);
            // A share at a time.
            for most in [5, usize::MAX] {
                let to = house.way(!is_unix);
                from.1.move_streams(&from.0.address, &to, most).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        biased;
        ended = &mut reading => ended,
        () = moving => unreachable!("it does not end"),
    };
    for (items, outcome) in ended {
        assert!(matches!(outcome, Some(Outcome::Complete { items: ITEMS })), "{items} {outcome:?}");
        assert_eq!(items, ITEMS);
    }
    assert!(house.heard.attached(ResumeReason::Moved) >= 20, "{:?}", house.heard.kinds());
    assert_eq!(house.heard.attached(ResumeReason::Lost), 0);
}

#[tokio::test]
async fn one_stream_is_moved_by_its_handle_and_refuses_a_way_to_another_process() {
    let (mut sinks, handler) = keeping();
    let house = House::with(MuxConfig::default(), handler).await;
    let (mut stream, mut sink) = begun(&house.unix, &mut sinks).await;
    let (mut other, mut kept) = begun(&house.unix, &mut sinks).await;
    soon("the move", stream.move_to(house.way(false))).await.unwrap();
    // It has left: the other stream alone loses the connection.
    assert_eq!(house.heard.attached(ResumeReason::Moved), 1);
    let stranger = crate::fixture::server(settings(3), count);
    let way = Way {
        transport: Arc::new(house.tcp.1.clone()),
        address: crate::fixture::tcp_address(&stranger),
    };
    let refusal = soon("the move", stream.move_to(way)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::WrongPeer, "{refusal}");
    for (stream, sink) in [(&mut stream, &mut sink), (&mut other, &mut kept)] {
        sink.send(Bytes::from("two")).await.unwrap();
        assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "two");
    }
    sink.complete();
    assert!(soon("the end", stream.next()).await.is_none());
    let refusal = soon("the move", stream.move_to(house.way(true))).await.unwrap_err();
    assert_eq!(refusal.code(), Code::NoTransport, "{refusal}");
}

#[tokio::test]
async fn what_becomes_of_streams_is_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let (mut sinks, handler) = keeping();
    let server = crate::fixture::server(settings(1), handler);
    let gate = Gate::tcp(&server).await;
    let client = metrics::with_local_recorder(&recorder, || {
        TcpTransport::new(settings(2).checked().unwrap())
    });
    let way = (gate, client);
    let shows = |line: &str| {
        let text = recorder.handle().render();
        text.lines().any(|it| it == line)
    };
    let (mut stream, mut sink) = begun(&way, &mut sinks).await;
    way.0.cut();
    sink.send(Bytes::from("two")).await.unwrap();
    assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "two");
    until("the attach", || shows("streams_resumed_total{reason=\"lost\"} 1")).await;
    until("the gap", || shows("resume_gap_seconds_count 1")).await;
    until("no detached stream", || shows("streams_detached{side=\"calling\"} 0")).await;
    assert!(shows("streams_truncated_total 0"));
    way.0.close();
    let error = soon("the end", stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Truncated, "{error}");
    assert!(shows("streams_truncated_total 1"));
    until("no detached stream", || shows("streams_detached{side=\"calling\"} 0")).await;
}

#[tokio::test]
async fn the_way_of_a_cancel_to_its_handler_is_timed() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let (mut sinks, handler) = keeping();
    let server =
        metrics::with_local_recorder(&recorder, || crate::fixture::server(settings(1), handler));
    let way = (Gate::tcp(&server).await, crate::fixture::client(settings(2)));
    let (stream, sink) = begun(&way, &mut sinks).await;
    stream.context().stop();
    soon("the stop", sink.context().stopped()).await;
    stream.context().kill();
    soon("the kill", sink.context().killed()).await;
    let shows = |line: &str| recorder.handle().render().lines().any(|it| it == line);
    until("both in the histogram", || shows("cancel_propagation_seconds_count 2")).await;
}
