//! Streams that outlive their connection: a proxy cuts it again and again.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use sinew_mux::MuxConfig;
use sinew_plane::{
    Address, Code, DuplexServer, DuplexTransport, Headers, IncomingRequest, InstanceId, Outcome,
    OutgoingRequest, ProcessId, ResponseSink, ResponseStream,
};
use sinew_transport_tcp::{TcpServer, TcpTransport};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    fixture::{config, driver, request, soon, until},
    gate::Gate,
};

const STREAMS: usize = 50;
pub(crate) const ITEMS: u64 = 400;
const ITEM_BYTES: usize = 64;

/// Cuts a connection behind as many bytes to the caller as 200 items have, with their headers.
const CUT_BYTES: usize = 200 * (ITEM_BYTES + 8);

pub(crate) fn settings(process: u64) -> sinew_transport_tcp::TcpConfig {
    driver(|it| it.mux = MuxConfig { process: ProcessId(process), ..MuxConfig::default() })
}

/// A grace of 100 ms, and keep-alive within it.
fn short_grace(config: MuxConfig) -> MuxConfig {
    let [interval, timeout] = [30, 100].map(Duration::from_millis);
    let (keepalive_interval, keepalive_timeout) = (interval, timeout);
    MuxConfig { resume_grace: timeout, keepalive_interval, keepalive_timeout, ..config }
}

/// Answers with numbered items.
pub(crate) fn count(_: IncomingRequest<'_>, mut sink: ResponseSink) {
    tokio::spawn(async move {
        for number in 0..ITEMS {
            let mut item = vec![0; ITEM_BYTES];
            item[..8].copy_from_slice(&number.to_be_bytes());
            if sink.send(Bytes::from(item)).await.is_err() {
                return;
            }
        }
        sink.complete();
    });
}

/// Reads a stream to its end: the numbers of its items must be in order, without a gap or a double.
pub(crate) async fn read(mut stream: ResponseStream) -> (u64, Option<Outcome>) {
    let mut next = 0;
    while let Some(item) = soon("an item", stream.next()).await {
        let Ok(item) = item else { break };
        let number = u64::from_be_bytes(item[..8].try_into().unwrap());
        assert_eq!(number, next, "a gap or a double");
        next += 1;
    }
    (next, stream.outcome().cloned())
}

/// Passes bytes on both ways and breaks off behind a number of bytes to the caller.
pub(crate) async fn pass(
    near: impl AsyncRead + AsyncWrite,
    far: impl AsyncRead + AsyncWrite,
    mut left: usize,
) {
    let (mut from_near, mut to_near) = tokio::io::split(near);
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let back = async {
        let mut chunk = vec![0; 1 << 10];
        while left > 0 {
            let room = left.min(chunk.len());
            let Ok(read @ 1..) = from_far.read(&mut chunk[..room]).await else { return };
            if to_near.write_all(&chunk[..read]).await.is_err() {
                return;
            }
            left -= read;
        }
    };
    tokio::select! {
        () = back => {}
        _ = tokio::io::copy(&mut from_near, &mut to_far) => {}
    }
}

/// A way to a server that is cut again and again, until it is let be.
struct CuttingProxy {
    address: Address,
    cuts: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl CuttingProxy {
    async fn tcp(server: &TcpServer) -> Self {
        let target = server.local_address().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::tcp(listener.local_addr().unwrap());
        let cuts = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&cuts);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                near.set_nodelay(true).unwrap();
                let Ok(far) = TcpStream::connect(target).await else { continue };
                far.set_nodelay(true).unwrap();
                pass(near, far, CUT_BYTES).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, cuts, task }
    }

    async fn unix(server: &TcpServer, folder: PathBuf) -> Self {
        let addresses = server.addresses();
        let target = addresses.iter().find(|it| it.scheme() == "unix").unwrap().rest().to_owned();
        let path = folder.join("cut.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let address = Address::new("unix", path.to_str().unwrap()).unwrap();
        let cuts = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&cuts);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = UnixStream::connect(&target).await else { continue };
                pass(near, far, CUT_BYTES).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, cuts, task }
    }
}

/// Fifty streams over a way that is cut behind every 200 items.
async fn soak(client: TcpTransport, proxy: &CuttingProxy) {
    let streams = (0..STREAMS).map(|_| async {
        loop {
            let request = request("");
            // A request that certainly did not run is sent again, as a router does.
            match soon("the request to leave", client.open(&proxy.address, request)).await {
                Ok(stream) => match read(stream).await {
                    (0, Some(Outcome::Failed { error })) if error.is_safe_to_resend() => {}
                    ended => return ended,
                },
                Err(error) => assert!(error.is_safe_to_resend(), "{error}"),
            }
        }
    });
    for (items, outcome) in join_all(streams).await {
        assert!(matches!(outcome, Some(Outcome::Complete { items: ITEMS })), "{items} {outcome:?}");
        assert_eq!(items, ITEMS);
    }
    let cuts = proxy.cuts.load(Ordering::Relaxed);
    let least = STREAMS * ITEMS as usize / 200 / 2;
    assert!(cuts >= least, "only {cuts} cuts");
    proxy.task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_over_tcp() {
    let server = crate::fixture::server(settings(1), count);
    let proxy = CuttingProxy::tcp(&server).await;
    soak(TcpTransport::new(settings(2).checked().unwrap()), &proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_over_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let mut serving = settings(1);
    serving.unix_dir = Some(folder.path().join("sockets"));
    let server = crate::fixture::server(serving, count);
    let proxy = CuttingProxy::unix(&server, folder.path().to_owned()).await;
    soak(TcpTransport::unix(settings(2).checked().unwrap()), &proxy).await;
}

/// A server behind a way that the test cuts when it likes.
struct Way {
    address: Address,
    cut: watch::Sender<u32>,
}

async fn way_to(server: &TcpServer) -> Way {
    let target = server.local_address().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::tcp(listener.local_addr().unwrap());
    let (cut, cuts) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(target).await else { continue };
            let mut cuts = cuts.clone();
            cuts.mark_unchanged();
            tokio::spawn(async move {
                tokio::select! {
                    () = pass(near, far, usize::MAX) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    });
    Way { address, cut }
}

/// Keeps each sink for the test.
pub(crate) fn keeping()
-> (tokio::sync::mpsc::UnboundedReceiver<ResponseSink>, impl Fn(IncomingRequest<'_>, ResponseSink))
{
    let (give, take) = tokio::sync::mpsc::unbounded_channel();
    (take, move |_: IncomingRequest<'_>, sink: ResponseSink| drop(give.send(sink)))
}

#[tokio::test]
async fn what_the_handler_sends_while_the_connection_is_gone_arrives_behind_it() {
    let (mut sinks, handler) = keeping();
    let server = crate::fixture::server(settings(1), handler);
    let way = way_to(&server).await;
    let client = TcpTransport::new(settings(2).checked().unwrap());
    let mut stream = client.open(&way.address, request("")).await.unwrap();
    let mut sink = soon("the request", sinks.recv()).await.unwrap();
    sink.send(Bytes::from("before")).await.unwrap();
    assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "before");
    way.cut.send_modify(|cuts| *cuts += 1);
    until("the server to see the loss", || server.connections() == 0 || client.connections() == 0)
        .await;
    sink.send(Bytes::from("behind")).await.unwrap();
    sink.complete();
    assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "behind");
    assert!(soon("the end", stream.next()).await.is_none());
    assert!(matches!(stream.outcome(), Some(Outcome::Complete { items: 2 })));
}

/// The caller has heard of the first head and not read it, the second is set while there is no
/// connection.
#[tokio::test]
async fn a_head_outlives_its_connection_and_facts_come_with_the_end() {
    let mut told = Headers::new();
    told.insert("model", "m").unwrap();
    let (mut sinks, handler) = keeping();
    let server = crate::fixture::server(settings(1), handler);
    let way = way_to(&server).await;
    let client = TcpTransport::new(settings(2).checked().unwrap());
    for is_late in [false, true] {
        let mut stream = client.open(&way.address, request("")).await.unwrap();
        let mut sink = soon("the request", sinks.recv()).await.unwrap();
        if !is_late {
            sink.head(told.clone()).unwrap();
            soon("the start", stream.started()).await.unwrap();
        }
        way.cut.send_modify(|cuts| *cuts += 1);
        until("the server to see the loss", || server.connections() == 0).await;
        if is_late {
            sink.head(told.clone()).unwrap();
        }
        assert_eq!(soon("the head", stream.head()).await.unwrap(), told);
        sink.send(Bytes::from("item")).await.unwrap();
        sink.complete_with(told.clone());
        assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "item");
        assert!(soon("the end", stream.next()).await.is_none());
        assert!(matches!(stream.outcome(), Some(Outcome::Complete { items: 1 })));
        assert_eq!(stream.facts(), told);
        assert_eq!(soon("the head", stream.head()).await.unwrap(), told);
    }
}

#[tokio::test]
async fn a_cancel_while_the_connection_is_gone_reaches_the_handler() {
    let (mut sinks, handler) = keeping();
    let server = crate::fixture::server(settings(1), handler);
    let way = way_to(&server).await;
    let client = TcpTransport::new(settings(2).checked().unwrap());
    let mut stream = client.open(&way.address, request("")).await.unwrap();
    let mut sink = soon("the request", sinks.recv()).await.unwrap();
    sink.send(Bytes::from("one")).await.unwrap();
    soon("an item", stream.next()).await.unwrap().unwrap();
    way.cut.send_modify(|cuts| *cuts += 1);
    drop(stream);
    soon("the cancel", sink.context().killed()).await;
}

#[tokio::test]
async fn a_handler_whose_caller_does_not_come_back_is_cancelled_in_time() {
    let (mut sinks, handler) = keeping();
    let mut serving = settings(1);
    serving.driver.mux = short_grace(serving.driver.mux);
    let server = crate::fixture::server(serving, handler);
    let gate = Gate::tcp(&server).await;
    let mut calling = settings(2);
    calling.driver.mux = short_grace(calling.driver.mux);
    let client = TcpTransport::new(calling.checked().unwrap());
    let mut stream = client.open(&gate.address, request("")).await.unwrap();
    let mut sink = soon("the request", sinks.recv()).await.unwrap();
    sink.send(Bytes::from("one")).await.unwrap();
    soon("an item", stream.next()).await.unwrap().unwrap();
    gate.close();
    soon("the handler to be cancelled", sink.context().killed()).await;
    let error = soon("the end", stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Truncated, "{error}");
}

#[tokio::test]
async fn without_a_process_of_its_own_an_end_keeps_nothing() {
    let (mut sinks, handler) = keeping();
    let server = crate::fixture::server(config(), handler);
    let way = way_to(&server).await;
    let client = TcpTransport::new(config().checked().unwrap());
    let mut stream = client.open(&way.address, request("")).await.unwrap();
    let mut sink = soon("the request", sinks.recv()).await.unwrap();
    sink.send(Bytes::from("one")).await.unwrap();
    soon("an item", stream.next()).await.unwrap().unwrap();
    way.cut.send_modify(|cuts| *cuts += 1);
    let error = soon("the end", stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Truncated, "{error}");
    soon("the handler to be cancelled", sink.context().killed()).await;
}

#[tokio::test]
async fn a_process_that_is_gone_ends_its_streams_at_once() {
    let (mut sinks, handler) = keeping();
    let server = crate::fixture::server(settings(1), handler);
    let address = crate::fixture::tcp_address(&server);
    let client = TcpTransport::new(settings(2).checked().unwrap());
    let mut stream = client.open(&address, request("")).await.unwrap();
    let mut sink = soon("the request", sinks.recv()).await.unwrap();
    sink.send(Bytes::from("one")).await.unwrap();
    soon("an item", stream.next()).await.unwrap().unwrap();
    let begun = std::time::Instant::now();
    server.shutdown(Duration::ZERO).await;
    let error = soon("the end", stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Truncated, "{error}");
    // Far from the ten seconds of the grace.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_instance_of_another_process_is_not_attached_to() {
    let (mut sinks, handler) = keeping();
    let first = crate::fixture::server(settings(1), handler);
    let at = first.local_address().unwrap();
    let client = TcpTransport::new(settings(2).checked().unwrap());
    let request = OutgoingRequest::new("a/b/c".parse().unwrap(), InstanceId(0), Bytes::new());
    let mut stream = client.open(&Address::tcp(at), request).await.unwrap();
    let mut sink = soon("the request", sinks.recv()).await.unwrap();
    sink.send(Bytes::from("one")).await.unwrap();
    soon("an item", stream.next()).await.unwrap().unwrap();
    first.shutdown(Duration::ZERO).await;
    let second = TcpServer::bind(settings(3).checked().unwrap(), at, Arc::new(count)).unwrap();
    let error = soon("the end", stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Truncated, "{error}");
    assert!(matches!(stream.outcome(), Some(Outcome::Truncated { received: 1 })));
    // Between the two nobody listens for a moment.
    let text = error.to_string();
    assert!(text.contains("another process answers") || text.contains("nobody listens"), "{text}");
    drop(second);
}

/// A call that wants nothing back ends with its connection, and its worker knows.
#[tokio::test]
async fn a_call_without_a_grace_ends_with_its_connection_at_both_ends() {
    let (mut sinks, handler) = keeping();
    let server = crate::fixture::server(settings(1), handler);
    let way = way_to(&server).await;
    let client = TcpTransport::new(settings(2).checked().unwrap());
    let mut asked = request("");
    asked.limits.resume_grace = Some(Duration::ZERO);
    let mut stream = client.open(&way.address, asked).await.unwrap();
    let mut other = client.open(&way.address, request("")).await.unwrap();
    let mut sink = soon("the request", sinks.recv()).await.unwrap();
    let mut kept = soon("the request", sinks.recv()).await.unwrap();
    for (sink, stream) in [(&mut sink, &mut stream), (&mut kept, &mut other)] {
        sink.send(Bytes::from("one")).await.unwrap();
        soon("an item", stream.next()).await.unwrap().unwrap();
    }
    way.cut.send_modify(|cuts| *cuts += 1);
    let error = soon("the end", stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Truncated, "{error}");
    soon("the handler to be cancelled", sink.context().killed()).await;
    kept.send(Bytes::from("two")).await.unwrap();
    assert_eq!(soon("an item", other.next()).await.unwrap().unwrap(), "two");
}

/// The endpoint's own grace counts at the worker, whatever its process has.
#[tokio::test]
async fn an_endpoint_without_a_grace_keeps_nothing() {
    let (mut sinks, handler) = keeping();
    let server = crate::fixture::server(settings(1), handler);
    let way = way_to(&server).await;
    let client = TcpTransport::new(settings(2).checked().unwrap());
    let mut stream = client.open(&way.address, request("")).await.unwrap();
    let mut sink = soon("the request", sinks.recv()).await.unwrap();
    sink.keep_for(Duration::ZERO);
    sink.send(Bytes::from("one")).await.unwrap();
    soon("an item", stream.next()).await.unwrap().unwrap();
    way.cut.send_modify(|cuts| *cuts += 1);
    soon("the handler to be cancelled", sink.context().killed()).await;
    let error = soon("the end", stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Truncated, "{error}");
    assert!(matches!(stream.outcome(), Some(Outcome::Truncated { received: 1 })));
}
