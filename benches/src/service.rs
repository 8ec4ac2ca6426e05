//! What every server does, whatever carries it.

use std::{future::poll_fn, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_core::Stream;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use crate::{Sent, Sink, engine::Engine};

/// A digit for what is asked, and two numbers of eight hexadecimal digits.
const HEAD_BYTES: usize = 17;

/// What asks for an echo: the rest of such a body is nobody's, so that it can be of any length.
const ECHO: u8 = b'0';

/// What a request asks for, written at the beginning of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The body back, as one item.
    Echo,
    /// Items as fast as they are taken, then the end.
    Stream {
        /// How many.
        items: u32,
        /// How long each is.
        item_bytes: u32,
    },
    /// To be kept open, without an item.
    Park,
    /// To be fed by the engine: one item per pass.
    Lane,
    /// Items at an even pace, until nobody takes them.
    Paced {
        /// Microseconds from item to item.
        every_us: u32,
        /// How long each is.
        item_bytes: u32,
    },
}

impl Ask {
    /// A request body of `bytes` bytes; at least 1, and for all but an echo at least 17. It is
    /// text, because some peers carry nothing else.
    pub fn body(self, bytes: usize) -> Bytes {
        let (kind, items, item_bytes) = match self {
            Self::Echo => {
                let mut body = vec![b'x'; bytes.max(1)];
                body[0] = ECHO;
                return body.into();
            }
            Self::Stream { items, item_bytes } => (1, items, item_bytes),
            Self::Park => (2, 0, 0),
            Self::Lane => (3, 0, 0),
            Self::Paced { every_us, item_bytes } => (4, every_us, item_bytes),
        };
        let mut body = format!("{kind}{items:08x}{item_bytes:08x}").into_bytes();
        body.resize(bytes.max(HEAD_BYTES), b'x');
        body.into()
    }

    /// What a body asks for.
    ///
    /// # Errors
    /// It asks for nothing known, or for more than its length says.
    pub fn read(body: &[u8]) -> Result<Self> {
        if body.first() == Some(&ECHO) {
            return Ok(Self::Echo);
        }
        let head = body.get(..HEAD_BYTES).context("a request without an ask")?;
        let number = |digits: &[u8]| -> Result<u32> {
            Ok(u32::from_str_radix(std::str::from_utf8(digits)?, 16)?)
        };
        let (items, item_bytes) = (number(&head[1..9])?, number(&head[9..])?);
        Ok(match head[0] {
            b'1' => Self::Stream { items, item_bytes },
            b'2' => Self::Park,
            b'3' => Self::Lane,
            b'4' => Self::Paced { every_us: items, item_bytes },
            other => bail!("a request that asks for {other}"),
        })
    }
}

/// The serving side of all workloads.
pub struct Service<S> {
    parked: Mutex<Vec<S>>,
    pub(crate) engine: Arc<Engine<S>>,
}

impl<S: Sink> Service<S> {
    pub(crate) fn new() -> Self {
        Self { parked: Mutex::default(), engine: Arc::default() }
    }

    /// Takes one request. Called from a connection's reader, so it answers what needs no waiting
    /// and gives the rest to a task. A request that asks for nothing known loses its sink.
    pub fn call(&self, body: Bytes, mut sink: S) {
        match Ask::read(&body) {
            Ok(Ask::Echo) => sink.end_with(&body),
            Ok(Ask::Stream { items, item_bytes }) => {
                // Ends by itself: with its items, or with the connection.
                tokio::spawn(produce(sink, items, item_bytes));
            }
            Ok(Ask::Park) => {
                sink.accept();
                sink.flush();
                self.parked.lock().push(sink);
            }
            Ok(Ask::Lane) => {
                sink.accept();
                sink.flush();
                self.engine.add(sink);
            }
            Ok(Ask::Paced { every_us, item_bytes }) => {
                sink.accept();
                sink.flush();
                // Ends by itself with the connection.
                let every = Duration::from_micros(u64::from(every_us).max(1));
                tokio::spawn(pace(sink, every, item_bytes));
            }
            Err(_) => drop(sink),
        }
    }

    pub(crate) fn parked(&self) -> usize {
        self.parked.lock().len()
    }
}

/// Sends as a stream of ready values is sent: a flush when there is no room, and at the end.
async fn produce<S: Sink>(mut sink: S, items: u32, item_bytes: u32) {
    let item = Bytes::from(vec![b'i'; item_bytes as usize]);
    for _ in 0..items {
        loop {
            match sink.try_send(&item) {
                Sent::Taken => break,
                Sent::Closed => return,
                Sent::Full => sink.flush(),
            }
            if !poll_fn(|cx| sink.poll_ready(cx)).await {
                return;
            }
        }
    }
    sink.end();
}

/// One item per period. An item for which there is no room is left out, and its gap is measured.
async fn pace<S: Sink>(mut sink: S, every: Duration, item_bytes: u32) {
    let item = Bytes::from(vec![b'p'; item_bytes as usize]);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if sink.try_send(&item) == Sent::Closed {
            return;
        }
        sink.flush();
    }
}

/// What [`Ask::Stream`] asks for, for peers whose servers return a stream instead of sending:
/// nothing stands between it and the peer.
pub fn ready_items(items: u32, item_bytes: u32) -> impl Stream<Item = Bytes> + Send + use<> {
    let item = Bytes::from(vec![b'i'; item_bytes as usize]);
    futures_util::stream::iter((0..items).map(move |_| item.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_what_it_asks_for() {
        for ask in [
            Ask::Echo,
            Ask::Stream { items: 256, item_bytes: 64 },
            Ask::Park,
            Ask::Lane,
            Ask::Paced { every_us: 7, item_bytes: 4096 },
        ] {
            let body = ask.body(128);
            assert_eq!((body.len(), Ask::read(&body).unwrap()), (128, ask));
        }
        for bytes in [1, 16] {
            let body = Ask::Echo.body(bytes);
            assert_eq!((body.len(), Ask::read(&body).unwrap()), (bytes, Ask::Echo));
        }
        assert!(Ask::read(b"").is_err());
        assert!(Ask::read(b"short").is_err());
        assert!(Ask::read(&[b'9'; 17]).is_err());
        assert!(Ask::read(&[b'x'; 17]).is_err());
    }
}
