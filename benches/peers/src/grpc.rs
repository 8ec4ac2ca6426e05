//! `tonic`: gRPC over HTTP/2, one channel for all callers.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::Result;
use bytes::{Buf, BufMut, Bytes};
use futures_core::{Stream, future::BoxFuture, stream::BoxStream};
use futures_util::StreamExt;
use http::uri::PathAndQuery;
use sinew_benches::{Ask, Caller, Peer, ReplySink, Server, Service, Shape, ready_items};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{NamedService, ServerStreamingService, UnaryService},
    transport::{Channel, Endpoint, server::TcpIncoming},
};

const ONE: &str = "/bench.Peer/One";
const MANY: &str = "/bench.Peer/Many";

/// Windows of the tuned variant: several bodies of 1 MiB in flight.
const TUNED_STREAM_BYTES: u32 = 4 << 20;
const TUNED_CONNECTION_BYTES: u32 = 16 << 20;

pub(crate) struct Tonic {
    pub(crate) is_tuned: bool,
}

impl Peer for Tonic {
    type Sink = ReplySink;
    type Server = GrpcServer;
    type Caller = GrpcCaller;

    fn name(&self) -> &'static str {
        if self.is_tuned { "tonic-tuned" } else { "tonic" }
    }

    fn about(&self) -> &'static str {
        if self.is_tuned {
            "the same with HTTP/2 windows of 4 MiB per stream and 16 MiB per connection, for large \
             bodies"
        } else {
            "tonic 0.14, one channel, defaults throughout; unary methods for single answers, \
             server streaming for the rest; bodies are the bytes themselves, without protobuf; \
             short streams are returned as ready streams, long ones through a channel of 256 items"
        }
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
        let serving = server.add_service(Rpc(service)).serve_with_incoming(incoming);
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            // Ends with the server; before that the callers see its failure.
            let _ = serving.await;
        });
        Ok(GrpcServer { address, _tasks: tasks })
    }

    async fn connect(&self, address: &str) -> Result<GrpcCaller> {
        let mut endpoint = Endpoint::from_shared(address.to_owned())?;
        if self.is_tuned {
            endpoint = endpoint
                .initial_stream_window_size(TUNED_STREAM_BYTES)
                .initial_connection_window_size(TUNED_CONNECTION_BYTES);
        }
        Ok(GrpcCaller(Grpc::new(endpoint.connect().await?)))
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
#[derive(Clone)]
struct Rpc(Arc<Service<ReplySink>>);

impl NamedService for Rpc {
    const NAME: &'static str = "bench.Peer";
}

impl tower_service::Service<http::Request<Body>> for Rpc {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(BytesCodec);
            Ok(match request.uri().path() {
                ONE => grpc.unary(One(service), request).await,
                MANY => grpc.server_streaming(Many(service), request).await,
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

struct One(Arc<Service<ReplySink>>);

impl UnaryService<Bytes> for One {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            let (sink, item) = ReplySink::one();
            service.call(request.into_inner(), sink);
            Ok(Response::new(item.await.map_err(|_| Status::internal("no answer"))?))
        })
    }
}

struct Many(Arc<Service<ReplySink>>);

impl ServerStreamingService<Bytes> for Many {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            let body = request.into_inner();
            Ok(Response::new(match Ask::read(&body) {
                Ok(Ask::Stream { items, item_bytes }) => {
                    ready_items(items, item_bytes).map(Ok).boxed()
                }
                _ => {
                    let (sink, items) = ReplySink::many();
                    service.call(body, sink);
                    items.map(Ok).boxed()
                }
            }))
        })
    }
}

#[derive(Clone)]
pub(crate) struct GrpcCaller(Grpc<Channel>);

impl Caller for GrpcCaller {
    type Items = GrpcItems;

    async fn open(&self, request: Bytes) -> Result<GrpcItems> {
        let mut client = self.0.clone();
        client.ready().await?;
        if Ask::read(&request)? == Ask::Echo {
            let path = PathAndQuery::from_static(ONE);
            let answer = client.unary(Request::new(request), path, BytesCodec).await?;
            return Ok(GrpcItems::One(Some(answer.into_inner())));
        }
        let path = PathAndQuery::from_static(MANY);
        let answer = client.server_streaming(Request::new(request), path, BytesCodec).await?;
        Ok(GrpcItems::Many(Box::new(answer.into_inner())))
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

pub(crate) enum GrpcItems {
    One(Option<Bytes>),
    Many(Box<Streaming<Bytes>>),
}

impl Stream for GrpcItems {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self {
            Self::One(item) => Poll::Ready(item.take().map(Ok)),
            Self::Many(items) => Pin::new(&mut **items).poll_next(cx).map_err(Into::into),
        }
    }
}

/// Messages that are bytes, as they are.
#[derive(Debug, Clone, Copy, Default)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
