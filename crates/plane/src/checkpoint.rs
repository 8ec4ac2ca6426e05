//! The state that a handler attaches to an item, so that another handler can continue.

use bytes::Bytes;

use crate::Error;

/// The state of a handler behind one of its items: whatever another instance needs to continue the
/// response from the next item on. Only the handlers of the endpoint understand it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// How many items of the stream it covers: the item that it belongs to, and all before it.
    pub items: u64,
    /// The state, opaque to everybody else. At most [`MAX_BYTES`](Self::MAX_BYTES).
    pub state: Bytes,
}

impl Checkpoint {
    /// Longest state, in bytes.
    pub const MAX_BYTES: usize = 64 << 10;

    /// Checks the length of a state.
    ///
    /// # Errors
    /// It is over [`MAX_BYTES`](Self::MAX_BYTES). The error has the category of the handler.
    pub fn check(state: &[u8]) -> Result<(), Error> {
        if state.len() > Self::MAX_BYTES {
            let message = format!(
                "a checkpoint has {} bytes, over the limit of {}: keep less state, or keep it \
                 elsewhere and put its place into the checkpoint",
                state.len(),
                Self::MAX_BYTES,
            );
            return Err(Error::handler(message));
        }
        Ok(())
    }
}
