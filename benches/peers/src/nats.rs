//! `nats`: core NATS through a broker of its own, one connection for all callers.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use anyhow::{Context as _, Result};
use async_nats::{Client, Subject, Subscriber, message::OutboundMessage};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::{Sink as _, StreamExt};
use sinew_benches::{Ask, Broker, Caller, Peer, Sent, Server, Service, Shape, Sink};
use tokio::task::JoinSet;

const SUBJECT: &str = "bench.peer.ask";

pub(crate) struct Nats;

impl Peer for Nats {
    type Sink = NatsSink;
    type Server = NatsServer;
    type Caller = NatsCaller;

    fn name(&self) -> &'static str {
        "nats"
    }

    fn about(&self) -> &'static str {
        "NATS core: async-nats 0.51 on both sides of a nats-server that runs for it, whose CPU time \
         counts as the server's; single answers as NATS requests, streams to an inbox each, with an \
         empty message at the end; defaults throughout"
    }

    fn runs(&self, shape: &Shape) -> bool {
        // It drops what a slow reader leaves instead of holding the sender back.
        !matches!(shape, Shape::Slow { .. })
    }

    async fn serve(&self, service: Arc<Service<NatsSink>>) -> Result<NatsServer> {
        let broker = Broker::start().await?;
        let client = async_nats::connect(broker.address()).await?;
        let requests = client.subscribe(SUBJECT).await?;
        // The callers ask as soon as they know the address.
        client.flush().await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(answer(client, requests, service));
        Ok(NatsServer { broker, _tasks: tasks })
    }

    async fn connect(&self, address: &str) -> Result<NatsCaller> {
        Ok(NatsCaller(async_nats::connect(address).await?))
    }
}

pub(crate) struct NatsServer {
    broker: Broker,
    _tasks: JoinSet<()>,
}

impl Server for NatsServer {
    fn address(&self) -> String {
        self.broker.address().to_owned()
    }

    fn writes(&self) -> Option<u64> {
        None
    }

    fn helpers_cpu_ns(&self) -> u64 {
        self.broker.cpu_ns()
    }
}

async fn answer(client: Client, mut requests: Subscriber, service: Arc<Service<NatsSink>>) {
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            service.call(request.payload, NatsSink { client: client.clone(), reply });
        }
    }
}

/// The sending end: a connection and where on it the caller listens.
pub(crate) struct NatsSink {
    client: Client,
    reply: Subject,
}

impl NatsSink {
    fn message(&self, payload: Bytes) -> OutboundMessage {
        OutboundMessage { subject: self.reply.clone(), reply: None, payload, headers: None }
    }

    fn send(&mut self, payload: Bytes) -> Sent {
        let message = self.message(payload);
        let mut client = Pin::new(&mut self.client);
        match client.as_mut().poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Sent::Full,
            Poll::Ready(Ok(())) if client.start_send(message).is_ok() => Sent::Taken,
            Poll::Ready(_) => Sent::Closed,
        }
    }
}

impl Sink for NatsSink {
    fn try_send(&mut self, item: &Bytes) -> Sent {
        self.send(item.clone())
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        Poll::Ready(ready!(Pin::new(&mut self.client).poll_ready(cx)).is_ok())
    }

    /// The client's own task writes.
    fn flush(&self) {}

    fn end(mut self) {
        if self.send(Bytes::new()) == Sent::Full {
            // Ends with room or with the connection.
            tokio::spawn(async move {
                let end = Bytes::new();
                let _ = self.client.publish(self.reply, end).await;
            });
        }
    }

    /// A NATS request takes one answer and needs no mark behind it.
    fn end_with(mut self, item: &Bytes) {
        if self.send(item.clone()) == Sent::Full {
            let item = item.clone();
            tokio::spawn(async move {
                let _ = self.client.publish(self.reply, item).await;
            });
        }
    }
}

#[derive(Clone)]
pub(crate) struct NatsCaller(Client);

impl Caller for NatsCaller {
    type Items = NatsItems;

    async fn open(&self, request: Bytes) -> Result<NatsItems> {
        if Ask::read(&request)? == Ask::Echo {
            let answer = self.0.request(SUBJECT, request).await?;
            return Ok(NatsItems::One(Some(answer.payload)));
        }
        let inbox = Subject::from(self.0.new_inbox());
        let items = self.0.subscribe(inbox.clone()).await?;
        self.0.publish_with_reply(SUBJECT, inbox, request).await?;
        Ok(NatsItems::Many(items))
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

pub(crate) enum NatsItems {
    One(Option<Bytes>),
    Many(Subscriber),
}

impl Stream for NatsItems {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self {
            Self::One(item) => Poll::Ready(item.take().map(Ok)),
            Self::Many(items) => {
                let message = ready!(items.poll_next_unpin(cx)).context("the connection is gone");
                let payload = message.map(|message| message.payload);
                Poll::Ready(Some(payload).filter(|it| !it.as_ref().is_ok_and(Bytes::is_empty)))
            }
        }
    }
}
