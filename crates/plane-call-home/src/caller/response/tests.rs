//! What no stream that is handed out can be made to show.

use std::time::Duration;

use bytes::Bytes;
use sinew_plane::{
    Context, InstanceId, Origin, OutgoingRequest, ProcessId, ResponsePlaneClient,
    ResponsePlaneServer, ResponseSource, StopKind,
};

use crate::{
    TcpStreamClient, TcpStreamClientConfig, TcpStreamServer, TcpStreamServerConfig,
    caller::expected::Entry,
};

/// Told by the stream itself, and not by the context that its connection listens to as well.
#[tokio::test]
async fn a_stop_is_remembered_whoever_tells_of_it() {
    for pool in [false, true] {
        let mut near = TcpStreamServerConfig { pool, ..TcpStreamServerConfig::default() };
        let mut far = TcpStreamClientConfig::default();
        (near.driver.mux.process, far.driver.mux.process) = (ProcessId(1), ProcessId(2));
        let caller = TcpStreamServer::bind(near.checked().unwrap()).unwrap();
        let worker = TcpStreamClient::new(far.checked().unwrap());
        let endpoint = "a/b/c".parse().unwrap();
        let mut request = OutgoingRequest::new(endpoint, InstanceId(1), Bytes::new());
        request.process = Some(ProcessId(2));
        let registered = caller.register(&request).unwrap();
        let Some(Entry::Response(source)) = caller.shared().streams.all().pop() else {
            panic!("the stream is expected")
        };
        ResponseSource::cancel(&*source.upgrade().unwrap(), StopKind::Stop);
        let context = Context::builder().id(request.context.id()).build();
        let sink = worker
            .connect(&registered.connection_info, Origin::SameHost, context.clone())
            .await
            .unwrap();
        tokio::time::timeout(Duration::from_secs(20), context.stopped()).await.unwrap();
        assert!(!context.is_killed());
        drop(sink);
    }
}
