//! What typed peers send both ways: a struct of three fields, as a service has it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A request, an answer, or an item. The text has the size that a workload asks for; the other
/// fields come on top.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its place in its stream, as far as somebody counts.
    pub index: u32,
    /// The body, which is text in all workloads.
    pub text: String,
    /// True where nothing follows.
    pub last: bool,
}

impl Message {
    /// A message with a copy of a body as its text, as a service makes one for each answer. A body
    /// that is not text, which no workload has, makes it empty.
    pub fn new(index: u32, body: &[u8], last: bool) -> Self {
        let text = std::str::from_utf8(body).unwrap_or_default().to_owned();
        Self { index, text, last }
    }

    /// The body, without a copy.
    pub fn into_body(self) -> Bytes {
        Bytes::from(self.text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_from_its_message() {
        let message = Message::new(7, b"body", true);
        assert_eq!((message.index, message.last), (7, true));
        assert_eq!(message.into_body(), "body");
    }
}
