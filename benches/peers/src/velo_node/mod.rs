//! `velo`, `velo-mux` and `velo-conn`: NVIDIA's next messaging layer for Dynamo.
//!
//! Answers come back as velo's unary messages, streams as its anchors: the caller makes an anchor
//! and sends its handle along, the worker opens a sender to it.

mod introduction;
mod open;
mod sender;

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::{Result, bail};
use bytes::Bytes;
use futures_core::Stream;
use sinew_benches::{Ask, Caller, Peer, ReplySink, Server, Service, Shape};
use velo::{
    Handler, Velo,
    streaming::{FlushPolicy, MuxConfig, StreamAnchor, StreamFrame},
    transports::tcp::TcpTransportBuilder,
};

pub(crate) use self::sender::VeloSink;
use self::{introduction::Introductions, open::Open, sender::Batches};
use crate::MAX_FILES;

const UNARY: &str = "bench_one";
const STREAM: &str = "bench_many";

/// How items travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// On the connection of the messages.
    Mux,
    /// The same with a larger window than the default of 32 items.
    WideMux,
    /// The same as the first, written when a burst of the engine ends and not before.
    ManualMux,
    /// On a connection for each stream.
    Connection,
}

/// The window of the tuned variant.
const WIDE_CREDIT: u32 = 256;

pub(crate) struct VeloPeer {
    pub(crate) streams: Streams,
}

impl Peer for VeloPeer {
    type Sink = VeloSink;
    type Server = VeloServer;
    type Caller = VeloCaller;

    fn name(&self) -> &'static str {
        match self.streams {
            Streams::Mux => "velo-mux",
            Streams::WideMux => "velo-mux256",
            Streams::ManualMux => "velo-manual",
            Streams::Connection => "velo-conn",
        }
    }

    fn about(&self) -> &'static str {
        match self.streams {
            Streams::Mux => {
                "velo 0.21 over TCP: unary messages for single answers, byte streams in its \
                 multiplexed mode for the rest, opened by ticket without a round trip; defaults \
                 throughout (credit of 32 items, automatic flush); connecting includes the exchange \
                 of addresses that a discovery would do"
            }
            Streams::WideMux => "the same with a credit of 256 items, streams only",
            Streams::ManualMux => {
                "`velo-mux` with a manual flush, which the engine makes at the end of a pass; \
                 forward pass only"
            }
            Streams::Connection => {
                "velo 0.21 with its multiplexed mode off: a TCP connection for each stream; \
                 streams only"
            }
        }
    }

    fn runs(&self, shape: &Shape) -> bool {
        let is_unary = matches!(shape, Shape::Unary { .. } | Shape::Connect);
        match self.streams {
            Streams::Mux => true,
            Streams::WideMux => !is_unary,
            Streams::ManualMux => matches!(shape, Shape::Passes { .. }),
            Streams::Connection => !is_unary && shape.streams() <= MAX_FILES,
        }
    }

    async fn serve(&self, service: Arc<Service<VeloSink>>) -> Result<VeloServer> {
        let node = node(self.streams).await?;
        let unary = Arc::clone(&service);
        let one = move |context: velo::Context| {
            let (sink, mut item) = ReplySink::one();
            unary.call(context.payload, VeloSink::one(sink));
            // The service answers before it returns.
            Ok(item.try_recv().ok())
        };
        node.register_handler(Handler::unary_handler(UNARY, one).build())?;
        let weak = node.downgrade();
        let batches = (self.streams == Streams::ManualMux).then(|| Batches::of(&node));
        let many = move |context: velo::Context| {
            let (node, service, batches) = (weak.upgrade(), Arc::clone(&service), batches.clone());
            async move {
                if let Some(node) = node {
                    let (sender, body) = Open::read(context.payload)?.sender(&node).await?;
                    service.call(body, VeloSink::many(sender, batches));
                }
                Ok(())
            }
        };
        node.register_handler(Handler::am_handler_async(STREAM, many).build())?;
        let introductions = Introductions::listen(node).await?;
        Ok(VeloServer { introductions })
    }

    async fn connect(&self, address: &str) -> Result<VeloCaller> {
        let node = node(self.streams).await?;
        let server = introduction::introduce(&node, address).await?;
        node.wait_for_handler(server, STREAM).await?;
        Ok(VeloCaller { node, server, has_mux: self.streams != Streams::Connection })
    }
}

async fn node(streams: Streams) -> Result<Velo> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let transport = TcpTransportBuilder::new().from_listener(listener)?.build()?;
    let builder = Velo::builder().add_transport(Arc::new(transport));
    let builder = match streams {
        Streams::Mux => builder.mux_only(),
        Streams::WideMux => {
            let config = MuxConfig { initial_credit: WIDE_CREDIT, ..MuxConfig::default() };
            builder.messenger_mux(config)?.mux_only()
        }
        Streams::ManualMux => {
            let config = MuxConfig { flush_policy: FlushPolicy::Manual, ..MuxConfig::default() };
            builder.messenger_mux(config)?.mux_only()
        }
        Streams::Connection => builder
            .messenger_mux(MuxConfig { enabled: false, ..MuxConfig::default() })?
            .stream_bind_addr(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    builder.build().await
}

pub(crate) struct VeloServer {
    introductions: Introductions,
}

impl Server for VeloServer {
    fn address(&self) -> String {
        self.introductions.address().to_owned()
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

#[derive(Clone)]
pub(crate) struct VeloCaller {
    node: Velo,
    server: velo::InstanceId,
    has_mux: bool,
}

impl Caller for VeloCaller {
    type Items = VeloItems;

    async fn open(&self, request: Bytes) -> Result<VeloItems> {
        if Ask::read(&request)? == Ask::Echo {
            let call = self.node.unary(UNARY)?.raw_payload(request).instance(self.server);
            return Ok(VeloItems::One(Some(call.send().await?)));
        }
        let anchor = self.node.create_anchor::<Bytes>();
        let handle = anchor.handle();
        let ticket = if self.has_mux { self.node.prebind_anchor(handle) } else { None };
        let open = Open { handle, ticket, body: request };
        let message = self.node.am_send(STREAM)?.raw_payload(open.write()?).instance(self.server);
        message.send().await?;
        Ok(VeloItems::Many(Box::new(anchor)))
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

pub(crate) enum VeloItems {
    One(Option<Bytes>),
    Many(Box<StreamAnchor<Bytes>>),
}

impl Stream for VeloItems {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let anchor = match &mut *self {
            Self::One(item) => return Poll::Ready(item.take().map(Ok)),
            Self::Many(anchor) => anchor,
        };
        let item = match ready!(anchor.poll_next_bytes(cx)).transpose()? {
            Some(StreamFrame::Item(item)) => Some(Ok(item)),
            Some(StreamFrame::Finalized) | None => None,
            Some(other) => Some(stopped(other)),
        };
        Poll::Ready(item)
    }
}

fn stopped(frame: StreamFrame<Bytes>) -> Result<Bytes> {
    bail!("the stream ended with {frame:?}")
}
