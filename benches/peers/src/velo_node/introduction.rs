//! Two nodes get to know each other, which is a discovery's part where there is one: each has to
//! have the other's address before a message can go there and an answer come back.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use velo::{InstanceId, PeerInfo, Velo};

/// The handler whose presence shows that a node's streams are ready, as velo's own tests have it.
const CONTROL: &str = "_anchor_attach";

/// Where a server takes introductions. It owns the node.
pub(super) struct Introductions {
    address: String,
    _tasks: JoinSet<()>,
}

impl Introductions {
    pub(super) async fn listen(node: Velo) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // Who could not be introduced sees the end of the connection.
                let _ = meet(&node, socket).await;
            }
        });
        Ok(Self { address, _tasks: tasks })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

/// The server's side of one introduction.
async fn meet(node: &Velo, mut socket: TcpStream) -> Result<()> {
    let peer = exchange(node, &mut socket).await?;
    node.wait_for_handler(peer, CONTROL).await?;
    socket.write_all(b"ready\n").await?;
    Ok(())
}

/// The caller's side.
pub(super) async fn introduce(node: &Velo, address: &str) -> Result<InstanceId> {
    let mut socket = TcpStream::connect(address).await?;
    let server = exchange(node, &mut socket).await?;
    let mut ready = String::new();
    BufReader::new(socket).read_line(&mut ready).await?;
    anyhow::ensure!(ready == "ready\n", "the server did not take the introduction");
    Ok(server)
}

async fn exchange(node: &Velo, socket: &mut TcpStream) -> Result<InstanceId> {
    socket.set_nodelay(true)?;
    let mut line = serde_json::to_vec(&node.peer_info())?;
    line.push(b'\n');
    socket.write_all(&line).await?;
    // Byte by byte, so that nothing of what follows is taken along.
    let mut line = Vec::new();
    BufReader::with_capacity(1, &mut *socket).read_until(b'\n', &mut line).await?;
    let peer: PeerInfo = serde_json::from_slice(&line).context("the other node's address")?;
    let id = peer.instance_id();
    node.register_peer(peer)?;
    Ok(id)
}
