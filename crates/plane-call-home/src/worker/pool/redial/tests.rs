//! What a redial costs, and where it goes.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_dynamo_wire::TcpStreamConnectionInfo;
use sinew_mux::Token;
use sinew_plane::{
    Address, Context, InstanceId, Outcome, OutgoingRequest, ResponsePlaneServer, ResponseSink,
    ResponseStream,
};
use sinew_testkit::{Cut, Cuts, CuttingProxy, Listen, Way, until, within};

use super::super::{super::dial::DialBudget, At, Pool};
use crate::{
    TcpStreamClientConfig, TcpStreamServer, TcpStreamServerConfig, worker::address::CallerAddresses,
};

const CALLER: super::ProcessId = super::ProcessId(1);
const WORKER: super::ProcessId = super::ProcessId(2);

/// A caller, a way to it, and the shared connections of a worker.
struct Ends {
    caller: TcpStreamServer,
    proxy: CuttingProxy,
    pool: Pool,
    config: crate::CheckedTcpStreamClientConfig,
}

impl Ends {
    async fn new() -> Self {
        let (mut near, mut far) =
            (TcpStreamServerConfig::default(), TcpStreamClientConfig::default());
        (near.driver.mux.process, far.driver.mux.process) = (CALLER, WORKER);
        let caller = TcpStreamServer::bind(near.checked().unwrap()).unwrap();
        let port = SocketAddr::from(([127, 0, 0, 1], caller.local_address().port()));
        let listen = CuttingProxy::start(Listen::loopback(), Address::tcp(port), Cuts::when_told());
        let (proxy, config) = (listen.await.unwrap(), far.checked().unwrap());
        let addresses = CallerAddresses::new(&config);
        let pool = Pool::new(std::sync::Arc::new(config.clone()), addresses);
        Self { caller, proxy, pool, config }
    }

    /// A stream that goes through the proxy, and where its worker knows its caller.
    async fn stream(&self) -> (ResponseStream, ResponseSink, At) {
        let endpoint = "a/b/c".parse().unwrap();
        let mut request = OutgoingRequest::new(endpoint, InstanceId(1), Bytes::new());
        request.process = Some(WORKER);
        let registered = self.caller.register(&request).unwrap();
        let info = TcpStreamConnectionInfo::from_text(&registered.connection_info).unwrap();
        let token = info.sinew.unwrap().token.unwrap();
        let byte = |at: usize| u8::from_str_radix(&token[2 * at..2 * at + 2], 16).unwrap();
        let token = Token::from_bytes(std::array::from_fn(byte));
        let address = self.proxy.address().rest().parse().unwrap();
        let at = At { address, token, process: CALLER };
        let context = Context::builder().id(request.context.id()).build();
        let mut dial_budget = DialBudget::new(&self.config);
        let dialled = self.pool.stream(at, &info.subject, &context, &mut dial_budget);
        let sink = within("the stream", dialled).await.unwrap();
        (registered.stream, sink, at)
    }
}

async fn take(stream: &mut ResponseStream, item: &str) {
    assert_eq!(within("an item", stream.next()).await.unwrap().unwrap(), item);
}

/// All attaches of a lost connection leave together, and so do the items that were kept.
#[tokio::test]
async fn a_thousand_streams_come_back_with_few_writes() {
    let ends = Ends::new().await;
    let mut pairs = Vec::new();
    for _ in 0..1_000 {
        let (mut stream, mut sink, _) = ends.stream().await;
        sink.send(Bytes::from("one")).await.unwrap();
        take(&mut stream, "one").await;
        pairs.push((stream, sink));
    }
    let made = ends.proxy.made();
    ends.proxy.hold();
    (&ends.proxy as &dyn Way).cut(Cut::Reset);
    until("the worker to dial", || ends.proxy.made() > made).await;
    for (_, sink) in &mut pairs {
        sink.send(Bytes::from("two")).await.unwrap();
    }
    let writes = || (ends.caller.shared().connections.writes(), ends.pool.0.connections.writes());
    let before = writes();
    ends.proxy.release();
    for (stream, _) in &mut pairs {
        take(stream, "two").await;
    }
    let after = writes();
    let (near, far) = (after.0 - before.0, after.1 - before.1);
    assert!(near <= 40 && far <= 40, "{near} writes of the caller, {far} of the worker");
    assert!(ends.proxy.made() - made <= 3, "{} dials", ends.proxy.made() - made);
    for (stream, sink) in &mut pairs {
        sink.send(Bytes::from("three")).await.unwrap();
        take(stream, "three").await;
    }
}

/// A name may stand for several, and the first of them be gone.
#[tokio::test]
async fn streams_come_back_over_another_address_of_their_caller() {
    let ends = Ends::new().await;
    let (mut stream, mut sink, at) = ends.stream().await;
    sink.send(Bytes::from("one")).await.unwrap();
    take(&mut stream, "one").await;
    let other = ends.caller.local_address();
    ends.pool.note_others(at, vec![SocketAddr::from(([127, 0, 0, 1], other.port()))]);
    // Nobody listens at the first any more.
    let Ends { proxy, caller: _caller, .. } = ends;
    drop(proxy);
    sink.send(Bytes::from("two")).await.unwrap();
    sink.complete();
    take(&mut stream, "two").await;
    assert!(within("the end", stream.next()).await.is_none());
    assert!(matches!(stream.outcome(), Some(Outcome::Complete { items: 2 })));
}
