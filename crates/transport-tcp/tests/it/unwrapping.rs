//! The mux of a server below another protocol of its port.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use sinew_mux_driver::MuxProtocol;
use sinew_net::{Accepted, Detect, Protocol};
use sinew_plane::{BoxFuture, DuplexServer, RequestPlaneServer, Terminal, Window};
use sinew_transport_tcp::TcpServer;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    fixture::{Keep, config, echo, soon, until},
    mux_peer::MuxPeer,
};

const PREFACE: &[u8] = b"to the mux: ";

/// Speaks the mux behind a preface.
struct Behind(Arc<MuxProtocol>);

impl Protocol for Behind {
    fn detect(&self, first: &[u8]) -> Detect {
        Detect::by_preface(first, PREFACE)
    }

    fn serve(self: Arc<Self>, mut connection: Accepted) -> BoxFuture<'static, ()> {
        connection.first.advance(PREFACE.len());
        Arc::clone(&self.0).serve(connection)
    }
}

async fn start(server: TcpServer) -> TcpServer {
    let behind = Behind(server.mux());
    let server = server.with_protocol(Arc::new(behind));
    server.start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    server
}

async fn greet(server: &TcpServer) -> MuxPeer {
    let mut socket = TcpStream::connect(server.local_address().unwrap()).await.unwrap();
    socket.write_all(PREFACE).await.unwrap();
    MuxPeer::greet_over(socket).await
}

const WINDOW: Window = Window { items: 8, bytes: 4096 };

#[tokio::test]
async fn what_is_unwrapped_is_served_and_counted_beside_the_rest() {
    let server = start(TcpServer::new(config().checked().unwrap(), Arc::new(echo))).await;
    let (mut behind, mut bare) = (greet(&server).await, MuxPeer::greet(&server).await);
    for peer in [&mut behind, &mut bare] {
        let body = Bytes::from_static(b"hi");
        let stream = peer.open(&body, body.len(), WINDOW).await.unwrap();
        let (ended, terminal, items) = peer.next_end().await.unwrap();
        assert_eq!((ended, items), (stream, 1));
        assert!(matches!(terminal, Terminal::Complete { .. }), "{terminal:?}");
    }
    assert_eq!(server.connections(), 2);
    drop(behind);
    until("the connection to be forgotten", || server.connections() == 1).await;
}

#[tokio::test]
async fn what_is_unwrapped_ends_with_the_server() {
    let kept = Keep::default();
    let server = TcpServer::new(config().checked().unwrap(), Arc::new(kept.handler()));
    let server = start(server).await;
    let mut peer = greet(&server).await;
    peer.open(&Bytes::new(), 0, WINDOW).await.unwrap();
    until("the request", || kept.0.lock().unwrap().len() == 1).await;
    let ended = soon("the server to end", server.shutdown(Duration::ZERO)).await;
    assert_eq!(ended.cut_streams, 1);
    assert_eq!(server.connections(), 0);
    while soon("the end of the connection", peer.next()).await.is_some() {}
}
