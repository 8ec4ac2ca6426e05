//! What a peer's bytes mean.

use bytes::Bytes;
use sinew_plane::{CancelReason, Error, Headers, StopKind, Terminal};

use crate::{Attach, Credit, Hello, Items, Open};

/// One thing that the peer said, already checked against the rules of the connection. Rules of
/// a single stream are checked by its [`Producer`](crate::Producer) or
/// [`Consumer`](crate::Consumer).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The peer introduced itself. Always first, never again.
    Hello(Hello),
    /// A request, whole.
    Opened(Box<Opened>),
    /// A request was cancelled before its body was there: no handler has seen it. To be answered
    /// with a cancelled terminal after 0 items.
    OpenCancelled {
        /// The number of the stream on this connection.
        stream: u32,
        /// Why.
        reason: CancelReason,
    },
    /// A request was given up before its body was there: no handler has seen it. To be answered
    /// with [`Outbound::reject`](crate::Outbound::reject).
    OpenRefused {
        /// The number of the stream on this connection.
        stream: u32,
        /// Why.
        error: Error,
    },
    /// There is no memory for the item that is arriving: its stream is to be ended here, and
    /// cancelled at the peer.
    ItemRefused {
        /// The stream.
        stream: u32,
    },
    /// The consumer of a running stream comes back.
    Attach {
        /// The number of the stream on this connection.
        stream: u32,
        /// For which stream, and from where on.
        attach: Attach,
    },
    /// The handler has taken the request.
    Accept {
        /// The stream.
        stream: u32,
    },
    /// The head of a response.
    Head {
        /// The stream.
        stream: u32,
        /// What the handler says of the response.
        head: Headers,
    },
    /// Whole items, as many as stand one behind the other.
    Items {
        /// The stream.
        stream: u32,
        /// The items; slices of the read buffer.
        items: Items,
    },
    /// The beginning of an item that comes in chunks. Whoever wants it says so with
    /// [`Inbound::assemble`](crate::Inbound::assemble) before the next event is asked for.
    ItemBegin {
        /// The stream.
        stream: u32,
        /// Length of the whole item in bytes.
        total: usize,
    },
    /// The item that began is whole.
    ItemEnd {
        /// The stream.
        stream: u32,
        /// The item.
        item: Bytes,
    },
    /// A chunk of an item that nobody wanted, or that never began.
    Chunk {
        /// The stream.
        stream: u32,
    },
    /// The end of a stream.
    Ended {
        /// The stream.
        stream: u32,
        /// How it ended.
        terminal: Terminal,
        /// How many items it had.
        items: u64,
        /// What the handler says of the whole response.
        facts: Headers,
    },
    /// Credit for a stream.
    Credit {
        /// The stream.
        stream: u32,
        /// What was consumed, and how much more may come.
        credit: Credit,
    },
    /// The consumer wants a stream to end.
    Cancel {
        /// The stream.
        stream: u32,
        /// How hard.
        kind: StopKind,
        /// Why.
        reason: CancelReason,
    },
    /// The consumer has the end of these streams.
    Done {
        /// The streams.
        streams: DoneStreams,
    },
    /// Request bodies of this many bytes in total may be sent.
    Grant {
        /// The total since the connection began.
        total: u64,
    },
    /// To be answered with [`Outbound::pong`](crate::Outbound::pong).
    Ping {
        /// What to answer with.
        token: u64,
    },
    /// To be told to the peer with [`Outbound::grant`](crate::Outbound::grant).
    GrantDue {
        /// The new total for request bodies.
        total: u64,
    },
    /// The peer takes no new streams on this connection.
    GoAway {
        /// Streams above this one were not begun.
        last_stream: u32,
        /// Why.
        error: Error,
    },
}

/// Streams whose ends have arrived at the peer, as their numbers stand in the frame that says so.
pub struct DoneStreams(Bytes);

impl DoneStreams {
    /// The numbers in `frame`, each of four bytes; what is left over says nothing.
    pub(crate) fn new(frame: Bytes) -> Self {
        Self(frame)
    }

    /// The streams, in the order in which the peer names them.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.as_chunks().0.iter().map(|number| u32::from_be_bytes(*number))
    }
}

impl std::fmt::Debug for DoneStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A request as it arrived.
#[derive(Debug)]
pub struct Opened {
    /// The number of the stream on this connection.
    pub stream: u32,
    /// Everything but the body.
    pub open: Open,
    /// The whole body.
    pub body: Bytes,
    /// The body is charged to the memory budget, for as long as anybody holds some of it.
    pub is_charged: bool,
}
