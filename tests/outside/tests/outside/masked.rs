//! What is peculiar to the transport: its neighbours on the port, and its preface.

use std::sync::Arc;

use sinew::layers::transport_tcp::TcpTransport;
use sinew_outside::masked::{MASKED, masked_transport};
use sinew_plane::{Address, DuplexServer, DuplexTransport, RequestHandler};
use sinew_testkit::{Received, handlers, request, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::fixture::{MaskedServer, config};

/// Answers with the name of the transport that brought the request.
fn transport() -> Arc<dyn RequestHandler> {
    handlers::spawned(|mut call| async move {
        let name = call.transport.as_str().to_owned();
        if call.sink.send(name.into()).await.is_ok() {
            call.sink.complete();
        }
    })
}

async fn answer(client: &dyn DuplexTransport, address: &Address) -> Received {
    let mut response = within("a stream", client.open(address, request(""))).await.unwrap();
    Received::read(&mut response).await
}

#[tokio::test]
async fn one_port_speaks_the_mux_masked_and_bare() {
    let server = MaskedServer::start(config(), transport()).await;
    let [masked, tcp] = server.addresses().try_into().unwrap();
    let (masking, bare) = (masked_transport(config().driver), TcpTransport::new(config()));
    assert_eq!(answer(&masking, &masked).await.complete(), [MASKED.as_str()]);
    assert_eq!(answer(&bare, &tcp).await.complete(), ["tcp"]);
    assert_eq!(server.0.connections(), 2);
}

/// Passes the first bytes of a connection on one by one.
async fn dribble(listener: TcpListener, to: Address) {
    let (mut near, _) = listener.accept().await.unwrap();
    let mut far = TcpStream::connect(to.rest()).await.unwrap();
    far.set_nodelay(true).unwrap();
    for _ in 0..24 {
        far.write_u8(near.read_u8().await.unwrap()).await.unwrap();
        tokio::task::yield_now().await;
    }
    copy_bidirectional(&mut near, &mut far).await.unwrap();
}

#[tokio::test]
async fn the_preface_may_come_in_pieces() {
    let server = MaskedServer::start(config(), transport()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    tokio::spawn(dribble(listener, server.masked_address()));
    let address = Address::new(MASKED.as_str(), &place).unwrap();
    let client = masked_transport(config().driver);
    assert_eq!(answer(&client, &address).await.complete(), [MASKED.as_str()]);
}
