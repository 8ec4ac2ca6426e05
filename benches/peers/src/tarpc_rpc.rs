//! `tarpc`: one request, one answer, over one connection.

use std::{
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::Result;
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use sinew_benches::{Caller, Peer, ReplySink, Server, Service, Shape};
use tarpc::{
    client,
    server::{BaseChannel, Channel},
    tokio_serde::formats::Bincode,
    tokio_util::codec::{Framed, LengthDelimitedCodec},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

#[tarpc::service]
trait Bench {
    async fn ask(body: Bytes) -> Bytes;
}

pub(crate) struct Tarpc;

impl Peer for Tarpc {
    type Sink = ReplySink;
    type Server = TarpcServer;
    type Caller = TarpcCaller;

    fn name(&self) -> &'static str {
        "tarpc"
    }

    fn about(&self) -> &'static str {
        "tarpc 0.38 over TCP with bincode, one connection, TCP_NODELAY, else defaults; it has no \
         streams"
    }

    fn runs(&self, shape: &Shape) -> bool {
        matches!(shape, Shape::Unary { .. } | Shape::Connect)
    }

    async fn serve(&self, service: Arc<Service<ReplySink>>) -> Result<TarpcServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, service));
        Ok(TarpcServer { address, _tasks: tasks })
    }

    async fn connect(&self, address: &str) -> Result<TarpcCaller> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let frames = Framed::new(socket, LengthDelimitedCodec::new());
        let transport = tarpc::serde_transport::new(frames, Bincode::default());
        let new = BenchClient::new(client::Config::default(), transport);
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            // Ends with the caller; before that the calls see its failure.
            let _ = new.dispatch.await;
        });
        Ok(TarpcCaller { client: new.client, _tasks: Arc::new(tasks) })
    }
}

pub(crate) struct TarpcServer {
    address: String,
    _tasks: JoinSet<()>,
}

impl Server for TarpcServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

async fn accept(listener: TcpListener, service: Arc<Service<ReplySink>>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if socket.set_nodelay(true).is_err() {
            continue;
        }
        let frames = Framed::new(socket, LengthDelimitedCodec::new());
        let transport = tarpc::serde_transport::new(frames, Bincode::default());
        let channel = BaseChannel::with_defaults(transport);
        let requests = channel.execute(Asked(Arc::clone(&service)).serve());
        connections.spawn(requests.for_each(|answer| async {
            // As tarpc's own examples do: each answer is a task.
            tokio::spawn(answer);
        }));
    }
}

#[derive(Clone)]
struct Asked(Arc<Service<ReplySink>>);

impl Bench for Asked {
    async fn ask(self, _: tarpc::context::Context, body: Bytes) -> Bytes {
        let (sink, item) = ReplySink::one();
        self.0.call(body, sink);
        item.await.unwrap_or_default()
    }
}

#[derive(Clone)]
pub(crate) struct TarpcCaller {
    client: BenchClient,
    /// Ends with the last clone.
    _tasks: Arc<JoinSet<()>>,
}

impl Caller for TarpcCaller {
    type Items = TarpcItems;

    async fn open(&self, request: Bytes) -> Result<TarpcItems> {
        Ok(TarpcItems(Some(self.client.ask(tarpc::context::current(), request).await?)))
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

pub(crate) struct TarpcItems(Option<Bytes>);

impl Stream for TarpcItems {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}
