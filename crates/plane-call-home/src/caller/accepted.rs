//! An accepted connection: its peer, and the stream that it is for.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use sinew_codec::TwoPartCodec;
use sinew_dynamo_wire::{ControlMessage, MAX_HANDSHAKE_BYTES, StreamType, Subject, read_handshake};
use sinew_mux::PREFACE;
use sinew_mux_driver::LostStreams;
use sinew_net::{Admit, Peer, Socket, TCP};
use sinew_plane::{Code, Error};
use tokio::{io::AsyncReadExt, net::TcpStream, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    expected::Entry,
    response_connection::{OpenGuard, ResponseConnection},
    server::Shared,
    worker_connections::Attached,
};

/// Room for the first read: a handshake, and the prologue and the first items behind it.
const FIRST_READ_BYTES: usize = 4 << 10;

/// Pause until streams for which the connections of their worker had no room try again.
const ROOM_PAUSE: Duration = Duration::from_millis(50);

impl Admit for Shared {
    fn stop_accepting(&self) -> &CancellationToken {
        &self.stop_accepting
    }

    fn make_room(&self) {
        self.admission.make_room();
    }

    fn admit(self: &Arc<Self>, socket: Socket, peer: Peer) {
        let place = match self.admission.enter(peer, &self.closing) {
            Ok(place) => place,
            Err(full) => {
                tracing::debug!(?peer, ?full, "call-home connection refused: no place is free");
                return;
            }
        };
        if let Err(error) = socket.tune_accepted(self.config.driver.mux.keepalive_timeout) {
            tracing::debug!(%error, "a connection was gone before it was set up");
            return;
        }
        let Socket::Tcp(mut stream) = socket else { return };
        let counted = OpenGuard::new(&self.open, place);
        let shared = Arc::clone(self);
        self.connections.spawn(async move {
            let until = Instant::now() + shared.config.handshake_timeout;
            let closing = counted.leave();
            let served = async {
                let mut first = BytesMut::new();
                match tokio::time::timeout_at(until, recognise(&mut stream, &mut first)).await {
                    Ok(Some(First::Mux)) => share(&shared, stream, first, counted, until).await,
                    Ok(Some(First::Handshake)) => {
                        take(&shared, stream, first, counted, until).await;
                    }
                    Ok(None) | Err(_) => {}
                }
            };
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                () = served => {}
            }
        });
    }
}

enum First {
    Mux,
    Handshake,
}

/// Tells by the first byte what a connection speaks; what was read for that is in `first`.
async fn recognise(stream: &mut TcpStream, first: &mut BytesMut) -> Option<First> {
    // A connection on which nothing comes costs no buffer.
    stream.readable().await.ok()?;
    first.reserve(FIRST_READ_BYTES);
    stream.read_buf(first).await.ok()?;
    match *first.first()? {
        byte if byte == PREFACE[0] => Some(First::Mux),
        // The length of a handshake is far below what its first byte stands for.
        0 => Some(First::Handshake),
        byte => {
            tracing::debug!(byte, "a call-home connection speaks something else");
            None
        }
    }
}

/// Runs the mux over a worker's shared connection, and has it known while it lives. Streams that it
/// loses attach to another one of the worker: to one that is up here, and else to the next by
/// [`add`](super::worker_connections::WorkerConnections::add). This task ends those that wait too long.
async fn share(
    shared: &Arc<Shared>,
    stream: TcpStream,
    first: BytesMut,
    counted: OpenGuard,
    until: Instant,
) {
    let config = Arc::new(shared.config.driver.clone());
    let socket = Socket::Tcp(stream);
    if socket.tune(config.mux.keepalive_timeout).is_err() {
        return;
    }
    // It is counted among the mux connections from here on.
    let arrived = (first, counted.into_place());
    let lost = CloseOnDrop(LostStreams::default());
    let CloseOnDrop(lost) = &lost;
    let socket = Box::new(socket);
    let connection = shared.connections.start_accepted_resuming(socket, arrived, config, lost);
    if tokio::time::timeout_at(until, connection.established()).await.is_err() {
        let error = Error::new(Code::ConnectTimedOut, "the worker did not say hello in time");
        connection.close(&error);
        return;
    }
    let Some((process, token)) = connection.peer().map(|hello| (hello.process, hello.token)) else {
        return;
    };
    if !shared.workers.add(process, token, &connection) {
        // It is told no more than that: whoever was sent a request has its token.
        tracing::debug!("a shared connection without the token of a worker is closed");
        let error = Error::new(Code::WrongPeer, "no request of this caller was sent to this end");
        connection.close(&error);
        return;
    }
    connection.closed().await;
    shared.workers.remove(process, &connection, lost);
    while !lost.is_empty() {
        match shared.workers.attach(process, lost) {
            Attached::All => {}
            Attached::InPart => lost.expired(Some(ROOM_PAUSE)).await,
            // It has closed its connections on purpose, and dials no more.
            Attached::Nowhere if connection.peer_leaves() => shared.workers.end_lost(process),
            Attached::Nowhere => lost.expired(None).await,
        }
    }
}

/// Ends the streams that wait when nobody looks after them any more.
struct CloseOnDrop(LostStreams);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Reads the handshake and hands the connection to its stream.
async fn take(
    shared: &Arc<Shared>,
    mut stream: TcpStream,
    mut buffer: BytesMut,
    counted: OpenGuard,
    until: Instant,
) {
    let read = read_first(&mut stream, &mut buffer);
    let (subject, stream_type, confirm) = match tokio::time::timeout_at(until, read).await {
        Ok(Ok(handshake)) => handshake,
        Ok(Err(what)) => return tracing::debug!(what, "call-home connection refused"),
        Err(_) => return tracing::debug!("no call-home handshake in time"),
    };
    counted.is_busy();
    let entry = Subject::parse(&subject).and_then(|subject| shared.streams.get(subject));
    let active = shared.connections.metrics(&TCP).opened();
    let codec = shared.config.two_part_codec();
    let connection =
        ResponseConnection::new(stream, buffer, codec, (counted, active), &shared.config);
    let connection = Box::new(connection);
    let refused = match (entry, stream_type) {
        (Some(Entry::Response(source)), StreamType::Response) => match source.upgrade() {
            Some(source) => source.attach_line(connection, confirm).err(),
            None => Some(connection),
        },
        (Some(Entry::Request(output)), StreamType::Request) => match output.claim() {
            Some(items) => {
                output.send(items, *connection).await;
                shared.streams.remove(output.subject, output.context.id());
                None
            }
            None => Some(connection),
        },
        // The stream that is expected stays expected: this may be somebody else's mistake.
        _ => Some(connection),
    };
    if let Some(mut connection) = refused {
        tracing::debug!("a call-home connection for a stream that nobody waits for");
        // The worker need not find out by itself that nobody listens.
        connection.send(ControlMessage::Kill);
        connection.linger().await;
    }
}

/// The handshake's subject and type, and whether it is to be confirmed; what follows it stays in the buffer.
async fn read_first(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Result<(String, StreamType, bool), &'static str> {
    // Nobody is known yet, so nothing long is waited for.
    let mut codec =
        TwoPartCodec::new(2 * MAX_HANDSHAKE_BYTES).with_max_header_size(MAX_HANDSHAKE_BYTES);
    loop {
        match codec.decode_frame(buffer) {
            Ok(Some(frame)) => {
                let handshake = read_handshake(&frame)?;
                return Ok((handshake.subject, handshake.stream_type, handshake.confirm));
            }
            Ok(None) => {}
            Err(_) => return Err("the first message is no handshake"),
        }
        match stream.read_buf(buffer).await {
            Ok(0) | Err(_) => return Err("closed before its handshake"),
            Ok(_) => {}
        }
    }
}
