//! `tonic` and `tonic-prost`: gRPC over HTTP/2, one channel for all callers.

use std::{
    convert::Infallible,
    marker::PhantomData,
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::Result;
use bytes::Bytes;
use futures_core::{Stream, future::BoxFuture, stream::BoxStream};
use futures_util::StreamExt;
use http::uri::PathAndQuery;
use sinew_benches::{Ask, Caller, Peer, ReplySink, Server, Service, Shape, ready_items};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client::Grpc,
    server::{NamedService, ServerStreamingService, UnaryService},
    transport::{Channel, Endpoint, server::TcpIncoming},
};

use crate::grpc_form::{Form, Plain, Prost};

const ONE: &str = "/bench.Peer/One";
const MANY: &str = "/bench.Peer/Many";

/// Windows of the tuned variant: several bodies of 1 MiB in flight.
const TUNED_STREAM_BYTES: u32 = 4 << 20;
const TUNED_CONNECTION_BYTES: u32 = 16 << 20;

pub(crate) struct Tonic<F> {
    name: &'static str,
    about: &'static str,
    is_tuned: bool,
    form: PhantomData<fn() -> F>,
}

impl Tonic<Prost> {
    /// `tonic-prost`: as its users have it.
    pub(crate) fn prost() -> Self {
        Self {
            name: "tonic-prost",
            about: "tonic 0.14 as a service uses it, one channel, defaults throughout: the struct \
                    of three fields that `sinew` sends, in protobuf by prost; unary methods for \
                    single answers, server streaming for the rest; short streams are returned as \
                    ready streams, long ones through a channel of 256 items",
            is_tuned: false,
            form: PhantomData,
        }
    }
}

impl Tonic<Plain> {
    /// `tonic`: without protobuf.
    pub(crate) fn plain() -> Self {
        Self {
            name: "tonic",
            about: "the same with messages that are the bytes themselves, without protobuf",
            is_tuned: false,
            form: PhantomData,
        }
    }

    /// `tonic-tuned`: for large bodies.
    pub(crate) fn tuned() -> Self {
        Self {
            name: "tonic-tuned",
            about: "`tonic` with HTTP/2 windows of 4 MiB per stream and 16 MiB per connection, for \
                    large bodies",
            is_tuned: true,
            form: PhantomData,
        }
    }
}

impl<F: Form> Peer for Tonic<F> {
    type Sink = ReplySink;
    type Server = GrpcServer;
    type Caller = GrpcCaller<F>;

    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn runs(&self, shape: &Shape) -> bool {
        !self.is_tuned || matches!(shape, Shape::Unary { bytes, .. } if *bytes >= 1 << 20)
    }

    async fn serve(&self, service: Arc<Service<ReplySink>>) -> Result<GrpcServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = format!("http://{}", listener.local_addr()?);
        let mut server = tonic::transport::Server::builder();
        if self.is_tuned {
            server = server
                .initial_stream_window_size(TUNED_STREAM_BYTES)
                .initial_connection_window_size(TUNED_CONNECTION_BYTES);
        }
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving =
            server.add_service(Rpc::<F>(service, PhantomData)).serve_with_incoming(incoming);
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            // Ends with the server; before that the callers see its failure.
            let _ = serving.await;
        });
        Ok(GrpcServer { address, _tasks: tasks })
    }

    async fn connect(&self, address: &str) -> Result<GrpcCaller<F>> {
        let mut endpoint = Endpoint::from_shared(address.to_owned())?;
        if self.is_tuned {
            endpoint = endpoint
                .initial_stream_window_size(TUNED_STREAM_BYTES)
                .initial_connection_window_size(TUNED_CONNECTION_BYTES);
        }
        Ok(GrpcCaller(Grpc::new(endpoint.connect().await?), PhantomData))
    }
}

pub(crate) struct GrpcServer {
    address: String,
    _tasks: JoinSet<()>,
}

impl Server for GrpcServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

/// What a build script would generate from a protobuf file with two methods.
struct Rpc<F>(Arc<Service<ReplySink>>, PhantomData<fn() -> F>);

impl<F> Clone for Rpc<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), PhantomData)
    }
}

impl<F: Form> NamedService for Rpc<F> {
    const NAME: &'static str = "bench.Peer";
}

impl<F: Form> tower_service::Service<http::Request<Body>> for Rpc<F> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(F::Codec::default());
            Ok(match request.uri().path() {
                ONE => grpc.unary(One::<F>(service, PhantomData), request).await,
                MANY => grpc.server_streaming(Many::<F>(service, PhantomData), request).await,
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

struct One<F>(Arc<Service<ReplySink>>, PhantomData<fn() -> F>);

impl<F: Form> UnaryService<F::Message> for One<F> {
    type Response = F::Message;
    type Future = BoxFuture<'static, Result<Response<F::Message>, Status>>;

    fn call(&mut self, request: Request<F::Message>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            let (sink, item) = ReplySink::one();
            service.call(F::unwrap(request.into_inner()), sink);
            let item = item.await.map_err(|_| Status::internal("no answer"))?;
            Ok(Response::new(F::wrap(&item)))
        })
    }
}

struct Many<F>(Arc<Service<ReplySink>>, PhantomData<fn() -> F>);

impl<F: Form> ServerStreamingService<F::Message> for Many<F> {
    type Response = F::Message;
    type ResponseStream = BoxStream<'static, Result<F::Message, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<F::Message>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            let body = F::unwrap(request.into_inner());
            Ok(Response::new(match Ask::read(&body) {
                Ok(Ask::Stream { items, item_bytes }) => {
                    ready_items(items, item_bytes).map(|item| Ok(F::wrap(&item))).boxed()
                }
                _ => {
                    let (sink, items) = ReplySink::many();
                    service.call(body, sink);
                    items.map(|item| Ok(F::wrap(&item))).boxed()
                }
            }))
        })
    }
}

pub(crate) struct GrpcCaller<F>(Grpc<Channel>, PhantomData<fn() -> F>);

impl<F> Clone for GrpcCaller<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<F: Form> Caller for GrpcCaller<F> {
    type Items = GrpcItems<F>;

    async fn open(&self, request: Bytes) -> Result<GrpcItems<F>> {
        let mut client = self.0.clone();
        client.ready().await?;
        let message = Request::new(F::wrap(&request));
        if Ask::read(&request)? == Ask::Echo {
            let path = PathAndQuery::from_static(ONE);
            let answer = client.unary(message, path, F::Codec::default()).await?;
            return Ok(GrpcItems::One(Some(F::unwrap(answer.into_inner()))));
        }
        let path = PathAndQuery::from_static(MANY);
        let answer = client.server_streaming(message, path, F::Codec::default()).await?;
        Ok(GrpcItems::Many(Box::new(answer.into_inner())))
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

pub(crate) enum GrpcItems<F: Form> {
    One(Option<Bytes>),
    Many(Box<Streaming<F::Message>>),
}

impl<F: Form> Stream for GrpcItems<F> {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self {
            Self::One(item) => Poll::Ready(item.take().map(Ok)),
            Self::Many(items) => {
                let message = Pin::new(&mut **items).poll_next(cx);
                message.map(|it| it.map(|it| Ok(F::unwrap(it?))))
            }
        }
    }
}
