//! The events that a peer's bytes decode to.

use bytes::Bytes;
use sinew_plane::{CancelReason, Checkpoint, Error, Headers, StopKind, Terminal};

use crate::{Attach, Credit, Hello, Items, Open};

/// One event from the peer, checked against the rules of the connection. Rules of a single stream
/// are checked by its [`Producer`](crate::Producer) or [`Consumer`](crate::Consumer).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The peer's hello. It is always the first event and never comes again.
    Hello(Hello),
    /// A request, whole.
    Opened(Box<Opened>),
    /// A request was cancelled before its body had arrived, so no handler has it. Answer with a
    /// cancelled terminal after 0 items.
    OpenCancelled {
        /// The number of the stream on this connection.
        stream: u32,
        /// Why.
        reason: CancelReason,
    },
    /// A request was abandoned before its body had arrived, so no handler has it. Answer with
    /// [`Outbound::reject`](crate::Outbound::reject).
    OpenRefused {
        /// The number of the stream on this connection.
        stream: u32,
        /// Why.
        error: Error,
    },
    /// There is no memory for the item that is arriving. End its stream here, and cancel it at the
    /// peer.
    ItemRefused {
        /// The stream.
        stream: u32,
    },
    /// The consumer of an open stream attaches it to this connection.
    Attach {
        /// The number of the stream on this connection.
        stream: u32,
        /// The stream, and the item from which to continue.
        attach: Attach,
    },
    /// The worker has accepted the request.
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
    /// A checkpoint of a response.
    Checkpoint {
        /// The stream.
        stream: u32,
        /// The items that it covers, and the state.
        checkpoint: Checkpoint,
    },
    /// Whole items of one stream that follow one another.
    Items {
        /// The stream.
        stream: u32,
        /// The items; slices of the read buffer.
        items: Items,
    },
    /// The begin of an item that arrives in chunks. Call
    /// [`Inbound::assemble`](crate::Inbound::assemble) before the next event to receive the item.
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
    /// A chunk of an item that is skipped, or that never began.
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
        /// How many items the stream had.
        items: u64,
        /// What the handler says of the whole response.
        facts: Headers,
    },
    /// Credit for a stream.
    Credit {
        /// The stream.
        stream: u32,
        /// How much was consumed, and how much more may be sent.
        credit: Credit,
    },
    /// The consumer cancels a stream.
    Cancel {
        /// The stream.
        stream: u32,
        /// How hard.
        kind: StopKind,
        /// Why.
        reason: CancelReason,
    },
    /// The consumer has received the end of these streams.
    Done {
        /// The streams.
        streams: DoneStreams,
    },
    /// Request bodies of this many bytes in total may be sent.
    Grant {
        /// The total since the connection began.
        total: u64,
    },
    /// A ping. Answer with [`Outbound::pong`](crate::Outbound::pong).
    Ping {
        /// The token for the answer.
        token: u64,
    },
    /// A grant is due. Send it with [`Outbound::grant`](crate::Outbound::grant).
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

/// The numbers of streams whose ends have arrived at the peer, as the `done` frame lists them.
pub struct DoneStreams(Bytes);

impl DoneStreams {
    /// The numbers in `frame`, each of four bytes; what is left over says nothing.
    pub(crate) fn new(frame: Bytes) -> Self {
        Self(frame)
    }

    /// The numbers of the streams, in the order of the frame.
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
    /// The request without its body.
    pub open: Open,
    /// The whole body.
    pub body: Bytes,
    /// True if the body is charged to the memory budget, until the last reference to its bytes is
    /// dropped.
    pub is_charged: bool,
}
