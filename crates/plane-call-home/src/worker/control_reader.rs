//! Reads the caller's messages on a connection that carries its response.

use std::io;

use bytes::BytesMut;
use sinew_codec::TwoPartCodec;
use sinew_dynamo_wire::{ControlMessage, Heartbeats, Message};
use sinew_plane::{Code, Error, clock};
use tokio::net::TcpStream;

use super::response_writer::{End, broken};

/// Longest frame that a caller sends, in bytes: a word in quotes.
const MAX_CONTROL_BYTES: usize = 1024;

/// What the caller says, frame by frame.
pub(crate) struct ControlReader {
    codec: TwoPartCodec,
    buffer: BytesMut,
    heartbeats: Heartbeats,
}

impl Default for ControlReader {
    fn default() -> Self {
        let codec =
            TwoPartCodec::new(2 * MAX_CONTROL_BYTES).with_max_header_size(MAX_CONTROL_BYTES);
        Self { codec, buffer: BytesMut::new(), heartbeats: Heartbeats::new(clock::now()) }
    }
}

impl ControlReader {
    /// The next control message. Cancel-safe.
    pub(crate) async fn next(&mut self, socket: &TcpStream) -> Result<ControlMessage, End> {
        loop {
            match self.codec.decode_frame(&mut self.buffer) {
                Ok(Some(frame)) => {
                    return match Message::read(frame) {
                        Ok(Message::Control(control)) => Ok(control),
                        Ok(Message::Heartbeat) if self.heartbeats.accept(clock::now()) => {
                            continue;
                        }
                        Ok(Message::Heartbeat) => Err(End::Violation("too many heartbeats")),
                        Ok(_) => Err(End::Violation("data")),
                        Err(what) => Err(End::Violation(what)),
                    };
                }
                Ok(None) => {}
                Err(_) => return Err(End::Violation("what is no control frame")),
            }
            let lost = |text: &str| {
                let message = format!("the caller {text} before its response ended");
                End::Lost(Error::new(Code::ConnectionLost, message))
            };
            if let Err(cause) = socket.readable().await {
                return Err(End::Lost(broken(&cause).with_source(cause)));
            }
            // Mostly nothing ever comes, so the buffer is made when something does.
            self.buffer.reserve(64);
            match socket.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(lost("closed the connection")),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(End::Lost(broken(&error).with_source(error))),
            }
        }
    }
}
