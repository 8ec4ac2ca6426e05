//! Running out of descriptors. In a binary of its own, because it lowers the limit of the process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::TcpStream, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use rustix::process::{Resource, getrlimit, setrlimit};
use sinew_plane::{
    DuplexServer, DuplexTransport, Error, Headers, IncomingRequest, InstanceId, OutgoingRequest,
    PlaneRequest, RequestPlaneClient, RequestPlaneHandler, ResponseSink,
};
use sinew_plane_request_tcp::{
    TcpRequestClient, TcpRequestConfig, TcpRequestServer, TcpRequestServerConfig,
};
use sinew_transport_tcp::{DriverConfig, TcpConfig, TcpServer, TcpTransport};

fn echo(request: IncomingRequest<'_>, mut sink: ResponseSink) {
    let body = request.body;
    tokio::spawn(async move {
        if sink.send(body).await.is_ok() {
            sink.complete();
        }
    });
}

/// Takes every request of the request plane.
struct Taker;

impl RequestPlaneHandler for Taker {
    fn accept(&self, _: PlaneRequest<'_>) -> Result<(), Error> {
        Ok(())
    }
}

async fn send(client: &TcpRequestClient, server: &TcpServer) -> Result<Bytes, Error> {
    let address = format!("{}/1f/a/b/c", server.local_address().unwrap());
    let sent = client.send_request(address, Bytes::from("request"), Headers::new());
    tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap()
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
    let config = TcpConfig {
        driver: DriverConfig { backoff_max: Duration::from_millis(50), ..DriverConfig::default() },
        ..TcpConfig::default()
    };
    let config = config.checked().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let server = TcpServer::bind(config.clone(), any, Arc::new(echo)).unwrap();
    let plane = TcpRequestServerConfig::default().checked().unwrap();
    let server = server.with_protocol(Arc::new(TcpRequestServer::new(plane, Arc::new(Taker))));
    let requests = TcpRequestClient::new(TcpRequestConfig::default().checked().unwrap());
    send(&requests, &server).await.unwrap();
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
    // The connections that were there go on meanwhile.
    assert_eq!(call(&client, &server).await, "still here");
    send(&requests, &server).await.unwrap();
    // A caller without descriptors fails and has sent nothing.
    let starved = TcpRequestClient::new(TcpRequestConfig::default().checked().unwrap());
    let error = send(&starved, &server).await.unwrap_err();
    assert!(error.is_safe_to_resend(), "{error:?}");

    drop(sockets);
    limit.current = before;
    setrlimit(Resource::Nofile, limit).unwrap();
    // Longer than the longest pause of the listener is not needed.
    let newcomer = TcpTransport::new(config);
    assert_eq!(call(&newcomer, &server).await, "still here");
    send(&starved, &server).await.unwrap();
}
