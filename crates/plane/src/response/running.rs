//! A hold on a stream that another part of the program reads.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::ResponseSource;
use crate::{BoxFuture, Code, Error, TransportId, Way};

/// Where a running stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlace {
    /// The transport of the connection that carries it. While its connection is lost, the one that
    /// did.
    pub transport: TransportId,
    /// How many items have arrived, those that nobody has taken yet included.
    pub items: u64,
    /// How many of them its reader has taken.
    pub taken: u64,
}

/// A hold on a running stream that does not keep it: the stream ends with its reader.
#[derive(Clone)]
pub struct RunningStream(Weak<dyn ResponseSource>);

impl RunningStream {
    pub(super) fn of(source: &Arc<dyn ResponseSource>) -> Option<Self> {
        source.place().map(|_| Self(Arc::downgrade(source)))
    }

    /// Where the stream is. `None` if it has ended.
    pub fn place(&self) -> Option<StreamPlace> {
        self.0.upgrade()?.place()
    }

    /// Moves the stream as [`ResponseStream::move_to`](super::ResponseStream::move_to) does. Also
    /// fails if nobody reads it any more.
    pub fn move_to(&self, way: Way) -> BoxFuture<'static, Result<(), Error>> {
        match self.0.upgrade() {
            Some(source) => source.move_to(way),
            None => {
                let error = Error::new(Code::NoTransport, "nobody reads this stream any more");
                Box::pin(std::future::ready(Err(error)))
            }
        }
    }
}

impl fmt::Debug for RunningStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RunningStream").field(&self.place()).finish()
    }
}
