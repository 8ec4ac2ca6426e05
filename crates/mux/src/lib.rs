//! Many streams over one ordered byte connection, as state machines.
//!
//! `docs/protocol.md` in the repository specifies the protocol, in enough detail to write another
//! implementation. This crate has its state machines, without sockets, tasks or a clock: bytes and
//! instants go in, events and bytes come out.
//!
//! - [`Producer`] and [`Consumer`] are the two ends of one stream. They outlive connections: the
//!   producer keeps items that were sent and not acknowledged, and a consumer that attaches over a
//!   new carrier says which item it needs next.
//! - [`Inbound`] and [`Outbound`] are the two directions of one connection: one decodes and checks
//!   the peer's bytes, the other has the bytes to be written next.
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use sinew_mux::{Event, Hello, Inbound, MuxConfig, Outbound, Role};
//! use std::time::Instant;
//!
//! let config = MuxConfig::default().checked().unwrap();
//! let mut dialler = Outbound::new(Role::Dialler, &config);
//! let mut acceptor = Inbound::new(Role::Acceptor, &config, Instant::now());
//!
//! // What the dialler writes first is its preface and its hello ...
//! let mut wire = BytesMut::new();
//! let batch = dialler.take_batch();
//! for part in batch.parts() {
//!     wire.extend_from_slice(part);
//! }
//! // ... and that is what the acceptor understands first.
//! acceptor.ingest(&mut wire).unwrap();
//! assert!(matches!(acceptor.poll_event(Instant::now()), Ok(Some(Event::Hello(_)))));
//! ```

mod assembly;
mod batch;
mod buffer_pool;
mod config;
mod connection;
mod consumer;
mod error;
mod event;
mod frame;
mod hello;
mod inbound;
mod items;
mod keep_alive;
mod message;
mod outbound;
mod outbox;
mod producer;
mod rate_limit;
mod request_bodies;
mod session;
mod stream;
mod sync;
mod timer;
mod token;

pub use crate::{
    batch::{Batch, Part},
    config::{CheckedMuxConfig, MuxConfig},
    connection::{Connection, Driver, Effects, ReceivedRequest, Receiver, Serving},
    consumer::{Consumer, Credit, Ended},
    error::{ConnectionError, StreamViolation},
    event::{DoneStreams, Event, Opened},
    frame::{FRAME_HEADER_BYTES, Kind, PREFACE},
    hello::{Hello, PROTOCOL_VERSION},
    inbound::{Inbound, Role, Tick},
    items::{Arrived, Items},
    message::{Attach, Open},
    outbound::{Outbound, Refusal},
    outbox::{CHUNK_BYTES, Outbox},
    producer::{ITEM_COST_BYTES, PollFrame, Producer, PushError},
    session::{Detached, Reattached, Sessions},
    stream::{CallerStream, ProducerStream},
    token::Token,
};

/// Room for one read on a busy connection, in bytes: one system call reads a chunk of a large
/// message with its header.
pub const READ_BYTES: usize = 96 << 10;

/// Runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
