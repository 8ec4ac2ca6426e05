//! One two-part message and its four kinds.

use std::fmt;

use bytes::Bytes;

/// A header part and a body part, each possibly empty.
///
/// Cloning and taking the parts is cheap: they are reference-counted slices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TwoPartMessage {
    /// Control information, usually JSON. Empty when there is none.
    pub header: Bytes,
    /// Application data. Empty when there is none.
    pub body: Bytes,
}

/// The four kinds of message. An empty part and a missing part are the same on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TwoPartMessageType {
    /// A control message.
    HeaderOnly(Bytes),
    /// One item of data.
    DataOnly(Bytes),
    /// A request: control header, then data.
    HeaderAndData(Bytes, Bytes),
    /// A heartbeat. Legal at any time; the transport limits how many it accepts.
    Empty,
}

/// The kind of a message without its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Only a header part.
    HeaderOnly,
    /// Only a body part.
    DataOnly,
    /// Both parts.
    HeaderAndData,
    /// Neither part.
    Empty,
}

/// A message of one kind arrived where the protocol expects another.
///
/// The peer broke the protocol of this stream. The framing is intact, so other streams on the
/// connection are not affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongKind {
    /// The kind that the protocol expects.
    pub expected: MessageKind,
    /// The kind that arrived.
    pub found: MessageKind,
}

impl TwoPartMessage {
    /// A message with both parts.
    pub fn from_parts(header: impl Into<Bytes>, body: impl Into<Bytes>) -> Self {
        Self { header: header.into(), body: body.into() }
    }

    /// A control message.
    pub fn from_header(header: impl Into<Bytes>) -> Self {
        Self::from_parts(header, Bytes::new())
    }

    /// A data message.
    pub fn from_data(body: impl Into<Bytes>) -> Self {
        Self::from_parts(Bytes::new(), body)
    }

    /// A heartbeat.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Which parts are present.
    pub fn kind(&self) -> MessageKind {
        match (self.header.is_empty(), self.body.is_empty()) {
            (false, true) => MessageKind::HeaderOnly,
            (true, false) => MessageKind::DataOnly,
            (false, false) => MessageKind::HeaderAndData,
            (true, true) => MessageKind::Empty,
        }
    }

    /// Sorts the message by which parts are present.
    pub fn into_message_type(self) -> TwoPartMessageType {
        match self.kind() {
            MessageKind::HeaderOnly => TwoPartMessageType::HeaderOnly(self.header),
            MessageKind::DataOnly => TwoPartMessageType::DataOnly(self.body),
            MessageKind::HeaderAndData => TwoPartMessageType::HeaderAndData(self.header, self.body),
            MessageKind::Empty => TwoPartMessageType::Empty,
        }
    }

    /// Returns the header, if the message is a control message.
    pub fn into_control(self) -> Result<Bytes, WrongKind> {
        self.check_kind(MessageKind::HeaderOnly)?;
        Ok(self.header)
    }

    /// Returns the body, if the message is a data message.
    pub fn into_data(self) -> Result<Bytes, WrongKind> {
        self.check_kind(MessageKind::DataOnly)?;
        Ok(self.body)
    }

    /// Returns header and body, if the message has both.
    pub fn into_header_and_data(self) -> Result<(Bytes, Bytes), WrongKind> {
        self.check_kind(MessageKind::HeaderAndData)?;
        Ok((self.header, self.body))
    }

    fn check_kind(&self, expected: MessageKind) -> Result<(), WrongKind> {
        let found = self.kind();
        if found == expected { Ok(()) } else { Err(WrongKind { expected, found }) }
    }
}

impl From<TwoPartMessageType> for TwoPartMessage {
    fn from(message: TwoPartMessageType) -> Self {
        match message {
            TwoPartMessageType::HeaderOnly(header) => Self::from_header(header),
            TwoPartMessageType::DataOnly(body) => Self::from_data(body),
            TwoPartMessageType::HeaderAndData(header, body) => Self { header, body },
            TwoPartMessageType::Empty => Self::empty(),
        }
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HeaderOnly => "header-only",
            Self::DataOnly => "data-only",
            Self::HeaderAndData => "header-and-data",
            Self::Empty => "empty",
        })
    }
}

impl fmt::Display for WrongKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected a {} message, received a {} one", self.expected, self.found)
    }
}

impl std::error::Error for WrongKind {}
