//! `dynamo`, `dynamo-nats`, `dynamo-quic`, `dynamo-quic0`: stock on both sides.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use dynamo_runtime::{
    pipeline::{Context as RequestContext, ManyOut, PushRouter, RouterMode},
    protocols::{annotated::Annotated, maybe_error::MaybeError},
};
use futures_core::Stream;
use futures_util::StreamExt;
use sinew_benches::{Caller, Peer, ReplySink, Service, Shape};

use crate::{
    engine::{self, Worker},
    environment::Plane,
    text::Text,
};

/// Streams that are open at once where each is a connection.
pub(crate) const MAX_STREAMS: usize = 1_000;

pub(crate) struct Dynamo {
    plane: Plane,
}

impl Dynamo {
    pub(crate) fn new(plane: Plane) -> Self {
        Self { plane }
    }
}

impl Peer for Dynamo {
    type Sink = ReplySink;
    type Server = Worker;
    type Caller = DynamoCaller;

    fn name(&self) -> &'static str {
        self.plane.peer()
    }

    fn about(&self) -> &'static str {
        match self.plane {
            Plane::Tcp => {
                "dynamo-runtime 1.6.1, requests over TCP and responses that call home over TCP, \
                 discovery in files, defaults throughout; bodies are strings in Dynamo's own \
                 codec; one runtime for all callers of a process, tokio 1.52.4 as it pins it"
            }
            Plane::Nats => {
                "the same with requests over a nats-server of its own, whose CPU time counts as \
                 the server's"
            }
            Plane::Quic => {
                "dynamo-runtime 1.6.1 with requests over TCP and responses over QUIC, batched for \
                 5 ms as by default"
            }
            Plane::QuicAtOnce => "the same without batching",
        }
    }

    fn runs(&self, shape: &Shape) -> bool {
        // A nats-server takes messages of 1 MiB by default, and the head comes on top of a body.
        if self.plane == Plane::Nats
            && matches!(shape, Shape::Unary { bytes, .. } if *bytes >= 1 << 20)
        {
            return false;
        }
        // Its runtime is made once in a process, so there is no new client to connect.
        let most = match self.plane {
            Plane::Tcp | Plane::Nats => MAX_STREAMS,
            // A worker takes 10,000 requests at once by default (DYN_TCP_WORKER_POOL_SIZE), and
            // beside the streams there is one more.
            Plane::Quic | Plane::QuicAtOnce => 9_999,
        };
        !matches!(shape, Shape::Connect) && shape.streams() <= most
    }

    async fn serve(&self, service: Arc<Service<ReplySink>>) -> Result<Worker> {
        Worker::start(service).await
    }

    async fn connect(&self, address: &str) -> Result<DynamoCaller> {
        let instance = address.split(' ').next().context("an address without an instance")?;
        let instance = u64::from_str_radix(instance, 16)?;
        let (_, endpoint) = engine::endpoint().await?;
        let client = endpoint.client().await?;
        let mut available = client.instance_avail_watcher();
        available.wait_for(|instances| instances.contains(&instance)).await?;
        let router = PushRouter::from_client(client, RouterMode::RoundRobin).await?;
        Ok(DynamoCaller { router: Arc::new(router), instance })
    }
}

#[derive(Clone)]
pub(crate) struct DynamoCaller {
    router: Arc<PushRouter<Text, Annotated<Text>>>,
    instance: u64,
}

impl Caller for DynamoCaller {
    type Items = DynamoItems;

    async fn open(&self, request: Bytes) -> Result<DynamoItems> {
        let request = RequestContext::new(Text(request));
        Ok(DynamoItems(self.router.direct(request, self.instance).await?))
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

pub(crate) struct DynamoItems(ManyOut<Annotated<Text>>);

impl Stream for DynamoItems {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(item) = ready!(self.0.poll_next_unpin(cx)) else { return Poll::Ready(None) };
        if let Some(error) = item.err() {
            return Poll::Ready(Some(Err(error.into())));
        }
        let text = item.data.context("an item without data");
        Poll::Ready(Some(text.map(|Text(item)| item)))
    }
}
