//! What slow and large requests hold of the memory budget.

use std::sync::Arc;

use bytes::BytesMut;
use sinew_codec::TcpResponseCodec;
use sinew_dynamo_wire::acknowledgement::{self, MAX_ACK_BYTES};
use sinew_plane::{Budget, BudgetUse, Code, Error, Executed};
use sinew_plane_request_tcp::TcpRequestServerConfig;
use sinew_transport_tcp::TcpServer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::fixture::{Taker, frame, soon, tcp, until, worker_over};

const MIB: usize = 1 << 20;

/// What is held for requests and responses: without what is only kept for the next message, and
/// what connections cost by themselves.
fn held(budget: &Budget) -> usize {
    let besides = [BudgetUse::Buffers, BudgetUse::Connections, BudgetUse::Ids];
    budget.total() - besides.map(|what| budget.used(what)).iter().sum::<usize>()
}

/// Reads one acknowledgement.
async fn answer(socket: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), Error> {
    let mut codec = TcpResponseCodec::new(MAX_ACK_BYTES);
    loop {
        if let Some(message) = codec.decode_frame(buffer).unwrap() {
            return acknowledgement::decode(&message.data);
        }
        assert_ne!(soon("an answer", socket.read_buf(buffer)).await.unwrap(), 0);
    }
}

fn frame_of(payload: usize) -> Vec<u8> {
    frame(b"1f/a/b/c", b"{}", &vec![5; payload])
}

async fn slow(server: &TcpServer, frame: &[u8]) -> (TcpStream, BytesMut) {
    let mut socket = TcpStream::connect(server.local_address().unwrap()).await.unwrap();
    soon("the frame to be taken", socket.write_all(frame)).await.unwrap();
    (socket, BytesMut::new())
}

#[tokio::test]
async fn slow_frames_hold_no_more_than_the_budget_and_a_refused_one_is_skipped() {
    let budget = Budget::new(16 * MIB);
    let mut tcp = tcp();
    tcp.driver.budget = Some(Arc::clone(&budget));
    let config = TcpRequestServerConfig { budget: Some(Arc::clone(&budget)), ..Default::default() };
    let taker = Arc::new(Taker::default());
    let server = worker_over(tcp, config, &taker);
    let whole = frame_of(2 * MIB);
    let part = &whole[..whole.len() - MIB / 2];
    let mut sockets = Vec::new();
    for _ in 0..16 {
        sockets.push(slow(&server, part).await);
        assert!(budget.total() <= budget.limit());
    }
    let (socket, buffer) = sockets.last_mut().unwrap();
    let refusal = answer(socket, buffer).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.executed()), (Code::Overloaded, Executed::No));
    assert_eq!(taker.count(), 0);
    // The connection goes on behind the rest of what was refused.
    let (mut socket, mut buffer) = sockets.pop().unwrap();
    drop(sockets);
    until("what was held to be let go of", || held(&budget) == 0).await;
    socket.write_all(&whole[part.len()..]).await.unwrap();
    socket.write_all(&frame_of(10)).await.unwrap();
    answer(&mut socket, &mut buffer).await.unwrap();
    socket.write_all(&whole).await.unwrap();
    answer(&mut socket, &mut buffer).await.unwrap();
    assert_eq!(taker.count(), 2);
    assert!(held(&budget) >= 2 * MIB, "the handler has it");
    taker.0.lock().clear();
    until("the payload to be let go of", || held(&budget) == 0).await;
}
