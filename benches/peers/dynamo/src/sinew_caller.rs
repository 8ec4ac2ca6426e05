//! `sinew-to-dynamo`: a Sinew caller of a stock worker.

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use sinew_benches::{Caller, Peer, ReplySink, Service, Shape};
use sinew_compat_dynamo::DynamoScheme;
use sinew_plane::{
    Address, DuplexTransport, EndpointName, InstanceId, OutgoingRequest, ResponseStream,
};
use sinew_plane_call_home::{ListenHost, TcpStreamServer, TcpStreamServerConfig};
use sinew_plane_request_tcp::{TcpRequestClient, TcpRequestConfig};
use sinew_split::SplitTransport;

use crate::{
    caller::MAX_STREAMS,
    engine::{COMPONENT, ENDPOINT, NAMESPACE, Worker},
    text::Text,
};

/// What both planes carry by default, less what stands around a body.
const MAX_MESSAGE_BYTES: usize = 31 << 20;

pub(crate) struct SinewToDynamo;

impl Peer for SinewToDynamo {
    type Sink = ReplySink;
    type Server = Worker;
    type Caller = SinewCaller;

    fn name(&self) -> &'static str {
        "sinew-to-dynamo"
    }

    fn about(&self) -> &'static str {
        "a Sinew caller of the stock worker that `dynamo` has, over Dynamo's TCP frames, with \
         responses that call home on a connection each; bodies and items are strings in \
         MessagePack, which stock peers speak to each other too"
    }

    fn runs(&self, shape: &Shape) -> bool {
        !matches!(shape, Shape::Connect) && shape.streams() <= MAX_STREAMS
    }

    async fn serve(&self, service: Arc<Service<ReplySink>>) -> Result<Worker> {
        Worker::start(service).await
    }

    async fn connect(&self, address: &str) -> Result<SinewCaller> {
        let (instance, worker) = address.split_once(' ').context("an address without a place")?;
        let responses = TcpStreamServerConfig {
            host: ListenHost::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ..TcpStreamServerConfig::default()
        };
        let responses = Arc::new(TcpStreamServer::bind(responses.checked()?)?);
        let requests = Arc::new(TcpRequestClient::new(TcpRequestConfig::default().checked()?));
        let scheme = DynamoScheme::Tcp;
        let transport =
            scheme.split_transport(MAX_MESSAGE_BYTES, requests, Arc::clone(&responses) as _);
        Ok(SinewCaller {
            transport: Arc::new(transport),
            responses,
            address: Address::new(scheme.as_str(), worker)?,
            endpoint: format!("{NAMESPACE}/{COMPONENT}/{ENDPOINT}").parse()?,
            instance: InstanceId(u64::from_str_radix(instance, 16)?),
        })
    }
}

#[derive(Clone)]
pub(crate) struct SinewCaller {
    transport: Arc<SplitTransport>,
    responses: Arc<TcpStreamServer>,
    address: Address,
    endpoint: EndpointName,
    instance: InstanceId,
}

impl Caller for SinewCaller {
    type Items = SinewItems;

    async fn open(&self, request: Bytes) -> Result<SinewItems> {
        let body = rmp_serde::to_vec(&Text(request))?.into();
        let mut request = OutgoingRequest::new(self.endpoint.clone(), self.instance, body);
        request.headers.insert("content-type", "application/msgpack")?;
        Ok(SinewItems(self.transport.open(&self.address, request).await?))
    }

    fn writes(&self) -> Option<u64> {
        None
    }

    fn response_connections(&self) -> Option<usize> {
        Some(self.responses.connections())
    }
}

pub(crate) struct SinewItems(ResponseStream);

impl Stream for SinewItems {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(item) = ready!(self.0.poll_next_unpin(cx)).transpose()? else {
            return Poll::Ready(None);
        };
        let text: Result<Text, _> = rmp_serde::from_slice(&item);
        Poll::Ready(Some(text.map(|Text(item)| item).map_err(Into::into)))
    }
}
