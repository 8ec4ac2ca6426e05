//! Requests that are streams, and an endpoint that echoes them. The tests of `compat-dynamo` use this
//! file too.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sinew_plane::{
    BoxStream, Code, IncomingRequest, InstanceId, OutgoingRequest, RequestHandler, RequestStream,
    ResponseSink,
};
use sinew_split::BidirectionalEndpoint;
use sinew_testkit::Reporter;

use crate::fixture::Worker;

pub(crate) fn no_unary() -> Arc<dyn RequestHandler> {
    Arc::new(|_: IncomingRequest<'_>, _: ResponseSink| panic!("it takes streams alone"))
}

/// Sends back each item that comes, and tells how they ended.
pub(crate) fn echo(worker: &Worker, ended: Reporter<Option<Code>>) -> BidirectionalEndpoint {
    let handler =
        move |request: IncomingRequest<'_>, mut items: RequestStream, mut sink: ResponseSink| {
            assert!(request.body.is_empty());
            let ended = ended.clone();
            tokio::spawn(async move {
                sink.accept();
                while let Some(item) = items.next().await {
                    let sent = match item {
                        Ok(item) => sink.send(item).await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = sent {
                        return ended.tell(Some(error.code()));
                    }
                }
                sink.complete();
                ended.tell(None);
            });
        };
    let endpoint = "ns1/backend/generate".parse().unwrap();
    worker.split.serve_bidirectional(endpoint, worker.back.clone(), Arc::new(handler))
}

pub(crate) fn request() -> OutgoingRequest {
    let mut request = OutgoingRequest::new(
        "ns1/backend/generate".parse().unwrap(),
        InstanceId(0x1f),
        Bytes::new(),
    );
    request.headers.insert("content-type", "application/json").unwrap();
    request
}

pub(crate) fn numbers(count: usize) -> BoxStream<'static, Bytes> {
    stream::iter((0..count).map(|number| Bytes::from(number.to_string()))).boxed()
}
