//! A call-home peer made by hand, byte for byte.

use bytes::Bytes;
use sinew_codec::{ChecksumMode, TwoPartCodec, TwoPartMessage};
use sinew_dynamo_wire::TcpStreamConnectionInfo;
use sinew_plane::{ResponsePlaneServer, ResponseRegistration, ResponseStream};
use sinew_plane_call_home::TcpStreamServer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{delivery::request, fixture::soon};

/// A frame written out by the rules of the wire: three lengths of 64 bits, header, body.
pub(crate) fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = (header.len() as u64).to_be_bytes().to_vec();
    frame.extend((body.len() as u64).to_be_bytes());
    frame.extend([0; 8]);
    frame.extend(header);
    frame.extend(body);
    frame
}

pub(crate) fn header(json: &str) -> Vec<u8> {
    frame(json.as_bytes(), b"")
}

pub(crate) fn item(body: &str) -> Vec<u8> {
    frame(b"", body.as_bytes())
}

pub(crate) const PROLOGUE: &str = r#"{"error":null}"#;
pub(crate) const SENTINEL: &str = "\"sentinel\"";
pub(crate) const READY: &str = "\"ready\"";

/// A worker made by hand.
pub(crate) struct RawWorker {
    pub(crate) socket: TcpStream,
}

impl RawWorker {
    /// Dials in for a stream and says which.
    pub(crate) async fn dial(caller: &TcpStreamServer, info: &str) -> Self {
        let info = TcpStreamConnectionInfo::from_text(info).unwrap();
        let stream_type = match info.stream_type {
            sinew_dynamo_wire::StreamType::Request => "request",
            sinew_dynamo_wire::StreamType::Response => "response",
        };
        let handshake =
            format!(r#"{{"subject":"{}","stream_type":"{stream_type}"}}"#, info.subject);
        let mut worker = Self::connect(caller).await;
        worker.send(&header(&handshake)).await;
        worker
    }

    pub(crate) async fn connect(caller: &TcpStreamServer) -> Self {
        Self { socket: TcpStream::connect(caller.local_address()).await.unwrap() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon("the caller to read", self.socket.write_all(bytes)).await.unwrap();
    }

    /// The next frame's header and body; `None` at the end.
    pub(crate) async fn receive(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        receive(&mut self.socket).await
    }

    /// The next frame, which is a header alone.
    pub(crate) async fn control(&mut self) -> Option<String> {
        let (header, body) = self.receive().await?;
        assert_eq!(body, b"");
        Some(String::from_utf8(header).unwrap())
    }
}

pub(crate) async fn receive(socket: &mut TcpStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let read = async {
        let mut prefix = [0; 24];
        socket.read_exact(&mut prefix).await.ok()?;
        let word = |at: usize| u64::from_be_bytes(prefix[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(word(16), 0, "the checksum is left out");
        let mut header = vec![0; word(0)];
        let mut body = vec![0; word(8)];
        socket.read_exact(&mut header).await.ok()?;
        socket.read_exact(&mut body).await.ok()?;
        Some((header, body))
    };
    soon("a frame or the end", read).await
}

/// A stream that is expected, with the worker that has dialled in for it.
pub(crate) async fn expect(caller: &TcpStreamServer) -> (ResponseStream, RawWorker) {
    let ResponseRegistration { connection_info, stream } = caller.register(&request()).unwrap();
    let worker = RawWorker::dial(caller, &connection_info).await;
    (stream, worker)
}

/// The bytes with a checksum, as a debug build of Dynamo sends them.
pub(crate) fn checked(header: &str, body: &'static str) -> Bytes {
    let codec = TwoPartCodec::default().with_checksum(ChecksumMode::Write);
    let message = TwoPartMessage::from_parts(header.as_bytes().to_vec(), body);
    codec.encode_message(&message).unwrap()
}
