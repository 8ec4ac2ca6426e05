//! Dispatches messages to handlers by their type.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;

use crate::envelope::Envelope;

/// Handlers by message type. `H` is the caller's type of handler: a closure, a channel, a boxed
/// trait object.
///
/// ```
/// use sinew_codec::{DispatchTable, Envelope};
///
/// let mut table = DispatchTable::new();
/// table.register(7, |payload: bytes::Bytes| payload.len())?;
/// assert_eq!(table.dispatch(Envelope::new(7, "ping"))?, 4);
/// assert_eq!(table.dispatch(Envelope::new(8, "ping")).unwrap_err().message_type, 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct DispatchTable<H> {
    handlers: BTreeMap<u16, H>,
}

/// The peer sent a message type without a handler.
///
/// The framing is intact: refuse this message, or skip it if the protocol allows that, and
/// continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownMessageType {
    /// The type without a handler.
    pub message_type: u16,
}

/// Two handlers were registered for one message type, which is a mistake in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateMessageType {
    /// The type that has a handler already.
    pub message_type: u16,
}

impl<H> Default for DispatchTable<H> {
    fn default() -> Self {
        Self { handlers: BTreeMap::new() }
    }
}

impl<H> DispatchTable<H> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the handler of `message_type`. If there is one already, it is kept and an error
    /// returned.
    pub fn register(&mut self, message_type: u16, handler: H) -> Result<(), DuplicateMessageType> {
        if self.handlers.contains_key(&message_type) {
            return Err(DuplicateMessageType { message_type });
        }
        self.handlers.insert(message_type, handler);
        Ok(())
    }

    /// The handler of `message_type`.
    pub fn handler(&self, message_type: u16) -> Result<&H, UnknownMessageType> {
        self.handlers.get(&message_type).ok_or(UnknownMessageType { message_type })
    }

    /// The message types that have a handler, in ascending order.
    pub fn message_types(&self) -> impl Iterator<Item = u16> + '_ {
        self.handlers.keys().copied()
    }

    /// Calls the handler of the envelope's type with its payload.
    pub fn dispatch<R>(&self, envelope: Envelope) -> Result<R, UnknownMessageType>
    where
        H: Fn(Bytes) -> R,
    {
        Ok(self.handler(envelope.message_type)?(envelope.payload))
    }
}

impl fmt::Display for UnknownMessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no handler for message type {}", self.message_type)
    }
}

impl fmt::Display for DuplicateMessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message type {} has a handler already", self.message_type)
    }
}

impl std::error::Error for UnknownMessageType {}
impl std::error::Error for DuplicateMessageType {}
