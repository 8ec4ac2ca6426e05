//! Recognises the protocol of a peer that has connected to the wrong port.

use std::fmt;

/// A protocol that is recognised from the first four bytes of an invalid frame.
///
/// Only used if the bytes are already known to be invalid, so a short pattern is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForeignProtocol {
    /// An HTTP/1 request or response.
    Http1,
    /// The HTTP/2 connection preface.
    Http2,
    /// A `CONNECT` line: HTTP proxying, or the first line of a NATS client.
    Connect,
    /// A NATS server greeting or another NATS command.
    Nats,
    /// A TLS handshake record.
    Tls,
    /// An SSH banner.
    Ssh,
    /// JSON text without a frame around it.
    Json,
    /// A node envelope of this crate, sent to an endpoint that expects two-part frames.
    NodeEnvelope,
}

// Four bytes each, the most that every decoder here is sure to hold before it rejects. A longer
// pattern would make the verdict depend on how the stream was split into reads.
const PATTERNS: &[(&[u8], ForeignProtocol)] = &[
    (b"GET ", ForeignProtocol::Http1),
    (b"POST", ForeignProtocol::Http1),
    (b"PUT ", ForeignProtocol::Http1),
    (b"HEAD", ForeignProtocol::Http1),
    (b"DELE", ForeignProtocol::Http1),
    (b"OPTI", ForeignProtocol::Http1),
    (b"PATC", ForeignProtocol::Http1),
    (b"TRAC", ForeignProtocol::Http1),
    (b"HTTP", ForeignProtocol::Http1),
    (b"PRI ", ForeignProtocol::Http2),
    (b"CONN", ForeignProtocol::Connect),
    (b"INFO", ForeignProtocol::Nats),
    (b"PING", ForeignProtocol::Nats),
    (b"PUB ", ForeignProtocol::Nats),
    (b"SUB ", ForeignProtocol::Nats),
    (b"HPUB", ForeignProtocol::Nats),
    (b"SSH-", ForeignProtocol::Ssh),
    (b"\x16\x03", ForeignProtocol::Tls),
    (b"{\"", ForeignProtocol::Json),
    (b"[{", ForeignProtocol::Json),
    (&crate::envelope::MAGIC, ForeignProtocol::NodeEnvelope),
];

impl ForeignProtocol {
    /// The protocol whose messages begin like `bytes`, if it is a known one.
    pub fn recognise(bytes: &[u8]) -> Option<Self> {
        PATTERNS
            .iter()
            .find(|(pattern, _)| bytes.starts_with(pattern))
            .map(|(_, protocol)| *protocol)
    }
}

impl fmt::Display for ForeignProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "an HTTP/1 message",
            Self::Http2 => "an HTTP/2 preface",
            Self::Connect => "a CONNECT line (NATS or HTTP)",
            Self::Nats => "a NATS command",
            Self::Tls => "a TLS handshake",
            Self::Ssh => "an SSH banner",
            Self::Json => "bare JSON text",
            Self::NodeEnvelope => "a node envelope",
        })
    }
}
