//! `http1` and `http2`: axum and reqwest, plain bodies for single answers and server-sent events
//! for streams.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::{Result, ensure};
use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::post,
    serve::ListenerExt,
};
use bytes::{Buf, Bytes, BytesMut};
use futures_core::{Stream, stream::BoxStream};
use futures_util::StreamExt;
use http::StatusCode;
use sinew_benches::{Ask, Caller, Peer, ReplySink, Server, Service, Shape, ready_items};
use tokio::{net::TcpListener, task::JoinSet};

use crate::MAX_FILES;

/// Streams that hyper's server allows on one HTTP/2 connection; reqwest waits for one to end
/// instead of making another connection.
const MAX_H2_STREAMS: usize = 200;

/// More than the largest body here.
const BODY_BYTES: usize = 8 << 20;

pub(crate) struct Http {
    pub(crate) is_v2: bool,
}

impl Peer for Http {
    type Sink = ReplySink;
    type Server = HttpServer;
    type Caller = HttpCaller;

    fn name(&self) -> &'static str {
        if self.is_v2 { "http2" } else { "http1" }
    }

    fn about(&self) -> &'static str {
        if self.is_v2 {
            "the same over HTTP/2 on one connection, with at most the 200 streams that hyper's \
             server allows"
        } else {
            "axum 0.8 and reqwest 0.13 over HTTP/1.1, POST requests, plain bodies for single \
             answers and server-sent events for streams; a connection for each request under way, \
             kept for the next; TCP_NODELAY on both sides, else defaults"
        }
    }

    fn runs(&self, shape: &Shape) -> bool {
        // Its HTTP/2 client takes what piles up of small items for an attack and ends the connection.
        if self.is_v2 && matches!(shape, Shape::Slow { .. }) {
            return false;
        }
        // Unary calls beyond the limit wait for each other, which streams that stay open cannot.
        let stay_open = !matches!(shape, Shape::Unary { .. } | Shape::Stream { .. });
        match self.is_v2 {
            true => !stay_open || shape.streams_per_connection() <= MAX_H2_STREAMS,
            false => shape.streams() <= MAX_FILES,
        }
    }

    async fn serve(&self, service: Arc<Service<ReplySink>>) -> Result<HttpServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = format!("http://{}/ask", listener.local_addr()?);
        let listener = listener.tap_io(|socket| {
            // Without it this peer is slower, not wrong.
            let _ = socket.set_nodelay(true);
        });
        let router = Router::new()
            .route("/ask", post(answer))
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .with_state(service);
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            // Ends with the server; before that the callers see its failure.
            let _ = axum::serve(listener, router).await;
        });
        Ok(HttpServer { address, _tasks: tasks })
    }

    async fn connect(&self, address: &str) -> Result<HttpCaller> {
        let builder = reqwest::Client::builder().no_proxy();
        let client = match self.is_v2 {
            true => builder.http2_prior_knowledge(),
            false => builder.http1_only(),
        };
        Ok(HttpCaller { client: client.build()?, address: address.into() })
    }
}

pub(crate) struct HttpServer {
    address: String,
    _tasks: JoinSet<()>,
}

impl Server for HttpServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

async fn answer(State(service): State<Arc<Service<ReplySink>>>, body: Bytes) -> Response {
    match Ask::read(&body) {
        Ok(Ask::Echo) => {
            let (sink, item) = ReplySink::one();
            service.call(body, sink);
            item.await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }
        Ok(Ask::Stream { items, item_bytes }) => events(ready_items(items, item_bytes)),
        _ => {
            let (sink, items) = ReplySink::many();
            service.call(body, sink);
            events(items)
        }
    }
}

fn events(items: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    // All items of the workloads are text.
    let event = |item: Bytes| Event::default().data(String::from_utf8_lossy(&item));
    Sse::new(items.map(move |item| Ok::<_, Infallible>(event(item)))).into_response()
}

#[derive(Clone)]
pub(crate) struct HttpCaller {
    client: reqwest::Client,
    address: Arc<str>,
}

impl Caller for HttpCaller {
    type Items = HttpItems;

    async fn open(&self, request: Bytes) -> Result<HttpItems> {
        let is_echo = Ask::read(&request)? == Ask::Echo;
        let response = self.client.post(&*self.address).body(request).send().await?;
        let response = response.error_for_status()?;
        if is_echo {
            return Ok(HttpItems::One(Some(response.bytes().await?)));
        }
        let events = Events { body: response.bytes_stream().boxed(), buffer: BytesMut::new() };
        Ok(HttpItems::Many(events))
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

pub(crate) enum HttpItems {
    One(Option<Bytes>),
    Many(Events),
}

impl Stream for HttpItems {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self {
            Self::One(item) => Poll::Ready(item.take().map(Ok)),
            Self::Many(events) => events.poll_next(cx),
        }
    }
}

/// The least of a parser for server-sent events: one line of data in each.
pub(crate) struct Events {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: BytesMut,
}

impl Events {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let mut line = self.buffer.split_to(end);
                self.buffer.advance(1);
                if line.starts_with(b"data: ") {
                    line.advance(6);
                    return Poll::Ready(Some(Ok(line.freeze())));
                }
            }
            match ready!(self.body.poll_next_unpin(cx)).transpose() {
                Ok(Some(part)) => self.buffer.extend_from_slice(&part),
                Ok(None) => return Poll::Ready(self.end().err().map(Err)),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn end(&self) -> Result<()> {
        ensure!(self.buffer.is_empty(), "the stream ended within an event");
        Ok(())
    }
}
