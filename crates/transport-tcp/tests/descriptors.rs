//! Running out of descriptors. In a binary of its own, because it lowers the limit of the process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::TcpStream, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use rustix::process::{Resource, getrlimit, setrlimit};
use sinew_plane::{
    DuplexServer, DuplexTransport, IncomingRequest, InstanceId, OutgoingRequest, ResponseSink,
};
use sinew_transport_tcp::{TcpConfig, TcpServer, TcpTransport};

fn echo(request: IncomingRequest<'_>, mut sink: ResponseSink) {
    let body = request.body;
    tokio::spawn(async move {
        if sink.send(body).await.is_ok() {
            sink.complete();
        }
    });
}

async fn call(client: &TcpTransport, server: &TcpServer) -> Bytes {
    let address = server.addresses().remove(0);
    let name = "test/tcp/echo".parse().unwrap();
    let request = OutgoingRequest::new(name, InstanceId(0), Bytes::from("still here"));
    let answer = async {
        let mut response = client.open(&address, request).await.unwrap();
        response.next().await.unwrap().unwrap()
    };
    tokio::time::timeout(Duration::from_secs(20), answer).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_descriptors_recovers_when_it_has_some() {
    let config = TcpConfig { backoff_max: Duration::from_millis(50), ..TcpConfig::default() };
    let config = config.checked().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let server = TcpServer::bind(config.clone(), any, Arc::new(echo)).unwrap();
    let client = TcpTransport::new(config.clone());
    assert_eq!(call(&client, &server).await, "still here");

    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = Some(64);
    setrlimit(Resource::Nofile, limit).unwrap();
    // Both ends are in this process, so its last descriptor goes to a client and the next accept
    // has none.
    let address = server.local_address().unwrap();
    let mut sockets = Vec::new();
    while let Ok(socket) = TcpStream::connect(address) {
        sockets.push(socket);
        assert!(sockets.len() < 64, "the limit holds");
    }
    // The connection that was there goes on meanwhile.
    assert_eq!(call(&client, &server).await, "still here");

    drop(sockets);
    limit.current = before;
    setrlimit(Resource::Nofile, limit).unwrap();
    // Longer than the longest pause of the listener is not needed.
    let newcomer = TcpTransport::new(config);
    assert_eq!(call(&newcomer, &server).await, "still here");
}
