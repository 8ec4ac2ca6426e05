//! The call-home plane, plain: one connection for each response, in the bytes of Dynamo 1.6.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_plane::{
    CancelReason, Code, Context, Error, Executed, InstanceId, Outcome, OutgoingRequest,
    ResponsePlaneClient, ResponsePlaneServer, ResponseRegistration, ResponseSink, ResponseStream,
    StreamId,
};
use sinew_transport_tcp::{
    TcpStreamClient, TcpStreamClientConfig, TcpStreamConnectionInfo, TcpStreamServer,
    TcpStreamServerConfig,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::fixture::soon;

pub(crate) fn caller(config: TcpStreamServerConfig) -> TcpStreamServer {
    TcpStreamServer::bind(config.checked().unwrap()).unwrap()
}

pub(crate) fn worker(config: TcpStreamClientConfig) -> TcpStreamClient {
    TcpStreamClient::new(config.checked().unwrap())
}

pub(crate) fn plain() -> TcpStreamClientConfig {
    TcpStreamClientConfig { pool: false, ..TcpStreamClientConfig::default() }
}

pub(crate) fn request() -> OutgoingRequest {
    OutgoingRequest::new("test/call/home".parse().unwrap(), InstanceId(7), Bytes::from("body"))
}

/// The worker's context of a request: it has the caller's id.
pub(crate) fn arrived(info: &str) -> Context {
    let info = TcpStreamConnectionInfo::from_text(info).unwrap();
    let id = sinew_transport_tcp::context_id(&info.context).unwrap();
    Context::builder().id(id).build()
}

pub(crate) async fn connect(worker: &TcpStreamClient, info: &str) -> ResponseSink {
    soon("the dial back", worker.connect(info, arrived(info))).await.unwrap()
}

pub(crate) async fn next(stream: &mut ResponseStream) -> Option<Result<Bytes, Error>> {
    soon("an item or the end", stream.next()).await
}

/// A stream with both its ends.
pub(crate) async fn pair(
    caller: &TcpStreamServer,
    worker: &TcpStreamClient,
) -> (ResponseStream, ResponseSink) {
    let ResponseRegistration { connection_info, stream } = caller.register(&request()).unwrap();
    (stream, connect(worker, &connection_info).await)
}

#[tokio::test]
async fn items_arrive_in_order_and_the_end_is_complete() {
    let (caller, worker) = (caller(TcpStreamServerConfig::default()), worker(plain()));
    let (mut stream, mut sink) = pair(&caller, &worker).await;
    for item in ["one", "", "three"] {
        sink.send(Bytes::from(item)).await.unwrap();
    }
    sink.complete();
    soon("the start", stream.started()).await.unwrap();
    for item in ["one", "", "three"] {
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), item);
    }
    assert!(next(&mut stream).await.is_none());
    assert!(matches!(stream.outcome(), Some(Outcome::Complete { items: 3 })));
    assert_eq!(caller.streams(), 0);
    assert_eq!(worker.close(Duration::from_secs(5)).await.cut_streams, 0);
    assert_eq!(caller.close(Duration::from_secs(5)).await.cut_streams, 0);
}
