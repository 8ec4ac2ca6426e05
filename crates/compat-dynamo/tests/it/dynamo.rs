//! A Dynamo peer by hand: its frames, and nothing that could be wrong in the same way as ours.
//! The interop tests use this file too.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::soon;

/// A two-part frame without a checksum, as release builds write it.
pub(crate) fn two_part(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(header.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(body);
    bytes
}

/// A request in the frame of the TCP request plane.
pub(crate) fn request_frame(path: &str, headers: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(path.len() as u16).to_be_bytes());
    bytes.extend_from_slice(path.as_bytes());
    bytes.extend_from_slice(&(headers.len() as u16).to_be_bytes());
    bytes.extend_from_slice(headers.as_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// One connection, either way.
pub(crate) struct Line(pub(crate) TcpStream);

impl Line {
    pub(crate) async fn dial(address: &str) -> Self {
        Self(soon("a dial", TcpStream::connect(address)).await.unwrap())
    }

    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        Self(soon("a connection", listener.accept()).await.unwrap().0)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        soon("a write", self.0.write_all(bytes)).await.unwrap();
    }

    async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        soon("bytes", self.0.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    async fn number<const N: usize>(&mut self) -> usize {
        let bytes = self.read(N).await;
        bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    /// Header and body of the next two-part frame.
    pub(crate) async fn frame(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (header, body) = (self.number::<8>().await, self.number::<8>().await);
        assert_eq!(self.number::<8>().await, 0, "release builds write no checksum");
        (self.read(header).await, self.read(body).await)
    }

    /// The header of a frame that is only that.
    pub(crate) async fn header(&mut self) -> String {
        let (header, body) = self.frame().await;
        assert!(body.is_empty());
        String::from_utf8(header).unwrap()
    }

    /// The body of a frame that is only that.
    pub(crate) async fn item(&mut self) -> Vec<u8> {
        let (header, body) = self.frame().await;
        assert!(header.is_empty(), "{}", header.escape_ascii());
        body
    }

    /// The acknowledgement of a request.
    pub(crate) async fn ack(&mut self) -> String {
        let length = self.number::<4>().await;
        String::from_utf8(self.read(length).await).unwrap()
    }

    /// The next request, to be acknowledged on this connection.
    pub(crate) async fn request(&mut self) -> Received {
        let path = self.number::<2>().await;
        let path = String::from_utf8(self.read(path).await).unwrap();
        let headers = self.number::<2>().await;
        let headers = serde_json::from_slice(&self.read(headers).await).unwrap();
        let length = self.number::<4>().await;
        let before = (self.number::<8>().await, self.number::<8>().await, self.number::<8>().await);
        assert_eq!((24 + before.0 + before.1, before.2), (length, 0));
        let control = serde_json::from_slice(&self.read(before.0).await).unwrap();
        let body = self.read(before.1).await;
        Received { path, headers, control, body }
    }

    /// Acknowledges a request; with no text it is accepted.
    pub(crate) async fn acknowledge(&mut self, text: &str) {
        let length = (text.len() as u32).to_be_bytes();
        self.write(&[&length, text.as_bytes()].concat()).await;
    }

    /// Nothing more comes.
    pub(crate) async fn end(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = soon("the end", self.0.read_to_end(&mut rest)).await;
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    }
}

/// A request as a worker receives it.
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: Value,
    pub(crate) control: Value,
    pub(crate) body: Vec<u8>,
}

/// A worker by hand.
pub(crate) struct Worker {
    listener: TcpListener,
}

impl Worker {
    pub(crate) async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn host(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Takes a request; the connection waits for its acknowledgement.
    pub(crate) async fn request(&self) -> (Received, Line) {
        let mut line = self.connection().await;
        let received = line.request().await;
        (received, line)
    }

    /// A connection for requests.
    pub(crate) async fn connection(&self) -> Line {
        Line::accept(&self.listener).await
    }

    /// Takes a request, accepts it, and dials back as far as the handshake.
    pub(crate) async fn accepted(&self) -> (Received, Line, Line) {
        let (received, mut line) = self.request().await;
        line.acknowledge("").await;
        let back = call_home(&received.control).await;
        (received, line, back)
    }
}

/// What a control message says of the way back.
pub(crate) fn info(control: &Value) -> Value {
    assert_eq!(control["connection_info"]["transport"], "tcp_server");
    serde_json::from_str(control["connection_info"]["info"].as_str().unwrap()).unwrap()
}

/// Dials a caller back and shakes hands.
pub(crate) async fn call_home(control: &Value) -> Line {
    let info = info(control);
    assert_eq!(info["context"], control["id"]);
    assert_eq!(info["stream_type"], "response");
    let mut back = Line::dial(info["address"].as_str().unwrap()).await;
    let subject = info["subject"].as_str().unwrap();
    let handshake = format!(r#"{{"subject":"{subject}","stream_type":"response"}}"#);
    back.write(&two_part(handshake.as_bytes(), b"")).await;
    back
}

/// A caller by hand: it listens for workers, and its control messages say where.
pub(crate) struct Caller {
    listener: TcpListener,
}

pub(crate) const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
pub(crate) const SUBJECT: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

impl Caller {
    pub(crate) async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// The control message as Dynamo writes it.
    pub(crate) fn control(&self, codec: &str) -> String {
        let address = self.listener.local_addr().unwrap();
        let info = format!(
            r#"{{\"address\":\"{address}\",\"subject\":\"{SUBJECT}\",\"context\":\"{ID}\",\"stream_type\":\"response\"}}"#
        );
        format!(
            r#"{{"id":"{ID}","request_type":"single_in","response_type":"many_out","payload_codec":"{codec}","connection_info":{{"transport":"tcp_server","info":"{info}"}}}}"#
        )
    }

    /// A connection of a worker, its handshake still to be read.
    pub(crate) async fn connection(&self) -> Line {
        Line::accept(&self.listener).await
    }

    /// The worker that dials back, behind its handshake.
    pub(crate) async fn worker(&self) -> Line {
        let mut line = Line::accept(&self.listener).await;
        let handshake = line.header().await;
        // Behind its last dash a test may have numbered it.
        let (fixed, _) = SUBJECT.rsplit_once('-').unwrap();
        assert!(handshake.starts_with(&format!(r#"{{"subject":"{fixed}-"#)), "{handshake}");
        assert!(handshake.ends_with(r#"","stream_type":"response"}"#), "{handshake}");
        line
    }
}
