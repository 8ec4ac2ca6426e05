//! Which protocol a new connection speaks, from its first bytes.
//!
//! | first bytes | protocol |
//! |---|---|
//! | `ff` | the mux, see `docs/protocol.md` |
//! | a path length of 1 to 1,024, 16 bits | Dynamo's request frames |
//! | `00 00` | Dynamo's call-home, whose header length is 64 bits |
//! | `16 03` | TLS |
//! | an upper-case ASCII letter | HTTP |

use std::{
    io,
    sync::atomic::{AtomicU8, Ordering},
};

use bytes::BytesMut;

use crate::socket::Socket;

/// Most that the first read takes: a hello, or a request of common size.
const FIRST_READ_BYTES: usize = 4 << 10;

/// What a peer begins to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerProtocol {
    Mux,
    RequestFrames,
    CallHome,
    Tls,
    Http,
    Unknown,
}

impl PeerProtocol {
    /// Decides as soon as that is possible: after one byte or two.
    pub(crate) fn recognise(bytes: &[u8]) -> Option<Self> {
        Some(match *bytes {
            [] | [0 | 0x16] => return None,
            [0xFF, ..] => Self::Mux,
            [0, 0, ..] => Self::CallHome,
            // 04 xx may say more than 1,024, which the decoder of the frames then tells the peer.
            [0..=4, ..] => Self::RequestFrames,
            [0x16, 3, ..] => Self::Tls,
            [b'A'..=b'Z', ..] => Self::Http,
            _ => Self::Unknown,
        })
    }
}

/// Reads into `buffer` until the protocol is known; `None` if the peer closes before.
/// Cancel-safe: what was read is in `buffer`.
pub(crate) async fn read_protocol(
    socket: &Socket,
    buffer: &mut BytesMut,
) -> io::Result<Option<PeerProtocol>> {
    loop {
        if let Some(protocol) = PeerProtocol::recognise(buffer) {
            return Ok(Some(protocol));
        }
        socket.readable().await?;
        match read_what_is_there(socket, buffer) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads once, by way of the stack: a connection that has said hello and nothing else keeps no
/// room that it does not need.
fn read_what_is_there(socket: &Socket, buffer: &mut BytesMut) -> io::Result<usize> {
    let mut read = [0; FIRST_READ_BYTES];
    let bytes = socket.try_read(&mut &mut read[..])?;
    buffer.extend_from_slice(&read[..bytes]);
    Ok(bytes)
}

/// An error that says only "try again".
pub(crate) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The protocols that were turned away so far, so that each is logged once and a scanner does not
/// fill a log.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway(AtomicU8);

impl TurnedAway {
    pub(crate) fn note(&self, protocol: PeerProtocol) {
        let bit = 1 << protocol as u8;
        if self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            tracing::debug!(?protocol, "a peer speaks what is not served on this port: closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_two_bytes_tell_the_protocols_apart() {
        for (bytes, protocol) in [
            (&b""[..], None),
            (b"\0", None),
            (b"\x16", None),
            (b"\xffSNEW", Some(PeerProtocol::Mux)),
            (b"\0\0\0\0\0\0\0\x40", Some(PeerProtocol::CallHome)),
            (b"\x00\x20", Some(PeerProtocol::RequestFrames)),
            (b"\x04\x00", Some(PeerProtocol::RequestFrames)),
            (b"\x16\x03\x01", Some(PeerProtocol::Tls)),
            (b"GET / HTTP/1.1", Some(PeerProtocol::Http)),
            (b"PRI * HTTP/2.0", Some(PeerProtocol::Http)),
            (b"\x05\x00", Some(PeerProtocol::Unknown)),
            (b"\x16\x09", Some(PeerProtocol::Unknown)),
            (b"{\"a\"", Some(PeerProtocol::Unknown)),
        ] {
            assert_eq!(PeerProtocol::recognise(bytes), protocol, "{bytes:?}");
        }
    }

    #[test]
    fn the_verdict_does_not_change_with_more_bytes() {
        for first in 0..=u16::MAX {
            let bytes = first.to_be_bytes();
            let verdict = PeerProtocol::recognise(&bytes).unwrap();
            if let Some(early) = PeerProtocol::recognise(&bytes[..1]) {
                assert_eq!(early, verdict, "{first:04x}");
            }
            if (1..=1024).contains(&first) {
                assert_eq!(verdict, PeerProtocol::RequestFrames, "{first:04x}");
            }
        }
    }
}
