//! Both ends of the request plane for the tests, by themselves and made by hand.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use parking_lot::Mutex;
use sinew_codec::{TcpRequestCodec, TcpRequestMessage};
use sinew_plane::{
    Address, Code, DuplexServer, DuplexTransport, Error, Headers, IncomingRequest, InstanceId,
    OutgoingRequest, PlaneRequest, RequestPlaneClient, RequestPlaneHandler, ResponseSink,
    ResponseStream,
};
use sinew_plane_request_tcp::{
    TcpRequestClient, TcpRequestConfig, TcpRequestServer, TcpRequestServerConfig,
};
pub(crate) use sinew_testkit::{until, within as soon};
use sinew_transport_tcp::{TcpConfig, TcpServer, TcpTransport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

pub(crate) const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What a [`Taker`] was asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Taken {
    pub(crate) target: String,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
}

/// A handler that keeps what it takes. Paths that end in `overloaded`, `unknown`, `draining` and
/// `panic` get what they ask for.
#[derive(Default)]
pub(crate) struct Taker(pub(crate) Mutex<Vec<Taken>>);

impl Taker {
    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

impl RequestPlaneHandler for Taker {
    fn accept(&self, request: PlaneRequest<'_>) -> Result<(), Error> {
        let target = request.target.to_owned();
        assert!(!target.ends_with("panic"), "a bug in a handler");
        let refusal = |code, text: &str| Err(Error::new(code, text));
        match target.rsplit('/').next() {
            Some("overloaded") => return refusal(Code::Overloaded, "worker at capacity"),
            Some("draining") => return refusal(Code::Draining, "the worker is going away"),
            Some("unknown") => {
                let text = format!("unknown endpoint {target}");
                return refusal(Code::UnknownEndpoint, &text);
            }
            _ => {}
        }
        let (headers, payload) = (request.headers, request.payload);
        self.0.lock().push(Taken { target, headers, payload });
        Ok(())
    }
}

/// Answers every request of the mux with its own body.
pub(crate) fn echo(request: IncomingRequest<'_>, mut sink: ResponseSink) {
    let body = request.body;
    tokio::spawn(async move {
        if sink.send(body).await.is_ok() {
            sink.complete();
        }
    });
}

pub(crate) fn config() -> TcpRequestServerConfig {
    TcpRequestServerConfig::default()
}

pub(crate) fn tcp() -> TcpConfig {
    TcpConfig::default()
}

/// A listener that serves the mux and the request plane.
pub(crate) fn worker(config: TcpRequestServerConfig, taker: &Arc<Taker>) -> TcpServer {
    worker_over(tcp(), config, taker)
}

pub(crate) fn worker_over(
    tcp: TcpConfig,
    config: TcpRequestServerConfig,
    taker: &Arc<Taker>,
) -> TcpServer {
    let server = TcpServer::bind(tcp.checked().unwrap(), ANY, Arc::new(echo)).unwrap();
    server.with_protocol(plane(config, taker))
}

pub(crate) fn worker_at(taker: &Arc<Taker>, at: SocketAddr) -> Result<TcpServer, Error> {
    let server = TcpServer::bind(tcp().checked().unwrap(), at, Arc::new(echo))?;
    Ok(server.with_protocol(plane(config(), taker)))
}

fn plane(config: TcpRequestServerConfig, taker: &Arc<Taker>) -> Arc<TcpRequestServer> {
    Arc::new(TcpRequestServer::new(config.checked().unwrap(), Arc::clone(taker) as _))
}

pub(crate) fn caller(config: TcpRequestConfig) -> TcpRequestClient {
    TcpRequestClient::new(config.checked().unwrap())
}

pub(crate) fn tcp_address(server: &TcpServer) -> Address {
    let addresses = server.addresses();
    addresses.into_iter().find(|address| address.scheme() == "tcp").unwrap()
}

/// Opens a stream of the mux.
pub(crate) async fn open(
    client: &TcpTransport,
    address: &Address,
    body: &'static str,
) -> Result<ResponseStream, Error> {
    let name = "test/tcp/echo".parse().unwrap();
    let request = OutgoingRequest::new(name, InstanceId(0), body.into());
    soon("the request to leave", client.open(address, request)).await
}

/// Sends a short request and returns its outcome.
pub(crate) async fn send(
    client: &TcpRequestClient,
    at: SocketAddr,
    path: &str,
) -> Result<Bytes, Error> {
    let sent = client.send_request(format!("{at}/{path}"), Bytes::from("hi"), Headers::new());
    soon("the acknowledgement", sent).await
}

pub(crate) fn defaults() -> TcpRequestConfig {
    TcpRequestConfig::default()
}

/// Starts so many requests at once.
pub(crate) fn storm(
    client: &TcpRequestClient,
    at: SocketAddr,
    count: usize,
) -> Vec<JoinHandle<Result<Bytes, Error>>> {
    let one = || {
        let client = client.clone();
        tokio::spawn(async move { send(&client, at, "1f/a/b/c").await })
    };
    (0..count).map(|_| one()).collect()
}

pub(crate) async fn all_accepted(storm: Vec<JoinHandle<Result<Bytes, Error>>>) {
    for outcome in join_all(storm).await {
        assert_eq!(outcome.unwrap().unwrap(), Bytes::new());
    }
}

/// A request frame made by hand.
pub(crate) fn frame(path: &[u8], headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = (path.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(path);
    bytes.extend((headers.len() as u16).to_be_bytes());
    bytes.extend_from_slice(headers);
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// An acknowledgement made by hand.
pub(crate) fn answer(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A connection to a worker by hand.
pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    buffer: BytesMut,
}

impl Raw {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket, buffer: BytesMut::new() }
    }

    pub(crate) async fn connect(server: &TcpServer) -> Self {
        Self::new(TcpStream::connect(server.local_address().unwrap()).await.unwrap())
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        soon("room to write", self.socket.write_all(bytes)).await.unwrap();
    }

    /// The text of the next acknowledgement.
    pub(crate) async fn answer(&mut self) -> String {
        let read = async {
            let len = self.socket.read_u32().await.unwrap();
            let mut text = vec![0; len as usize];
            self.socket.read_exact(&mut text).await.unwrap();
            String::from_utf8(text).unwrap()
        };
        soon("an acknowledgement", read).await
    }

    /// What is said until the peer closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        // A reset is as good an end as a close.
        let _ = soon("the peer to close", self.socket.read_to_end(&mut said)).await;
        said
    }

    /// The next request; `None` at the end.
    pub(crate) async fn request(&mut self) -> Option<TcpRequestMessage> {
        let mut codec = TcpRequestCodec::default();
        loop {
            if let Some(message) = codec.decode_frame(&mut self.buffer).unwrap() {
                return Some(message);
            }
            let read = soon("a request", self.socket.read_buf(&mut self.buffer)).await;
            if !read.is_ok_and(|bytes| bytes > 0) {
                return None;
            }
        }
    }
}

/// A worker by hand: the test accepts and answers.
pub(crate) struct RawWorker {
    pub(crate) listener: TcpListener,
    pub(crate) at: SocketAddr,
}

impl RawWorker {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        Self { listener, at }
    }

    pub(crate) async fn accept(&self) -> Raw {
        let (socket, _) = soon("a connection", self.listener.accept()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Raw::new(socket)
    }
}

/// A worker that takes requests and acknowledges none before it is told to, and counts.
pub(crate) struct Gate {
    pub(crate) at: SocketAddr,
    open: watch::Sender<bool>,
    pub(crate) connections: watch::Receiver<usize>,
    pub(crate) requests: watch::Receiver<usize>,
}

impl Gate {
    pub(crate) async fn closed() -> Self {
        let worker = RawWorker::new().await;
        let at = worker.at;
        let (open, opened) = watch::channel(false);
        let (count_connections, connections) = watch::channel(0);
        let (count_requests, requests) = watch::channel(0);
        let count_requests = Arc::new(count_requests);
        tokio::spawn(async move {
            while let Ok((socket, _)) = worker.listener.accept().await {
                count_connections.send_modify(|count| *count += 1);
                let (mut opened, counter) = (opened.clone(), Arc::clone(&count_requests));
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.into_split();
                    let (owe, mut owed) = tokio::sync::mpsc::unbounded_channel();
                    tokio::spawn(async move {
                        if opened.wait_for(|open| *open).await.is_err() {
                            return;
                        }
                        while let Some(()) = owed.recv().await {
                            let _ = write.write_all(&[0; 4]).await;
                        }
                    });
                    let (mut codec, mut buffer) = (TcpRequestCodec::default(), BytesMut::new());
                    while read.read_buf(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
                        while let Some(_request) = codec.decode_frame(&mut buffer).unwrap() {
                            counter.send_modify(|count| *count += 1);
                            let _ = owe.send(());
                        }
                    }
                });
            }
        });
        Self { at, open, connections, requests }
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    pub(crate) async fn requests(&mut self, count: usize) {
        let reached = self.requests.wait_for(|it| *it >= count);
        soon("the requests to arrive", reached).await.unwrap();
    }
}
