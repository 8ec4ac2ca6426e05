//! The least that a mux over TCP can do: what Sinew is measured against.
//!
//! One connection, a 9-byte header, a queue per stream. No flow control per stream, no limits,
//! no cancellation, no handshake, no keep-alive, no numbering, nothing survives anything. A
//! server stops taking items while [`link::ROOM_BYTES`] wait to be written, which is all that
//! bounds it.

mod client;
mod frame;
mod link;
mod server;

use std::sync::Arc;

use anyhow::Result;
use tokio::net::TcpStream;

use self::{client::RawCaller, link::Writes, server::RawServer, server::RawSink};
use super::Peer;
use crate::{Service, Shape};

pub(super) struct RawMux {
    name: &'static str,
    about: &'static str,
    writes: Writes,
}

impl RawMux {
    /// `raw-mux`: whoever has something to send wakes a task that writes it.
    pub(super) fn with_writer_task() -> Self {
        Self {
            name: "raw-mux",
            about: "minimal frames on one tokio TCP connection, written by a task; no flow \
                    control, no limits, no keep-alive, no cancellation",
            writes: Writes::ByTask,
        }
    }

    /// `raw-muxi`: who finds the connection idle writes at once; else the output gathers.
    pub(super) fn with_eager_writes() -> Self {
        Self {
            name: "raw-muxi",
            about: "the same, but a sender that has the connection to itself writes at once, and \
                    what many send leaves in one write: the limit that a mux can approach",
            writes: Writes::Eagerly,
        }
    }
}

impl Peer for RawMux {
    type Sink = RawSink;
    type Server = RawServer;
    type Caller = RawCaller;

    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    /// Without flow control, what a slow reader leaves would pile up without a bound.
    fn runs(&self, shape: &Shape) -> bool {
        !matches!(shape, Shape::Slow { .. })
    }

    async fn serve(&self, service: Arc<Service<RawSink>>) -> Result<RawServer> {
        RawServer::bind(service, self.writes).await
    }

    async fn connect(&self, address: &str) -> Result<RawCaller> {
        let socket = TcpStream::connect(address).await?;
        RawCaller::new(socket, self.writes)
    }
}
