//! What happens to the connections over which a process calls, for a program that wants to hear of
//! it.

use std::{fmt, sync::Arc, time::Duration};

use crate::{Address, Error, ProcessId};

/// Why a stream is attached to another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResumeReason {
    /// Its connection broke or was closed.
    Lost,
    /// Its peer was silent for longer than the keep-alive bound.
    Silence,
    /// Its peer said goaway, and takes streams on another connection.
    Goaway,
    /// This process moved it, to another address or transport.
    Moved,
}

impl ResumeReason {
    /// All of them, in the order of their [places](Self::place).
    pub const ALL: [Self; 4] = [Self::Lost, Self::Silence, Self::Goaway, Self::Moved];

    /// Its word, as the label of a metric has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Silence => "silence",
            Self::Goaway => "goaway",
            Self::Moved => "moved",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub const fn place(self) -> usize {
        self as usize
    }
}

/// Something that happened to a connection that this process made for its calls, or to the streams
/// on it. The text form is one line for people.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// A connection is up: the peer has said hello.
    #[non_exhaustive]
    Connected {
        /// The address that was dialled.
        address: Address,
        /// The process that answered.
        process: ProcessId,
        /// From the dial to the hello.
        took: Duration,
    },
    /// A connection was lost, by a fault or because the peer closed it.
    #[non_exhaustive]
    Lost {
        /// The address that was dialled.
        address: Address,
        /// Streams that were on it.
        streams: usize,
        /// Why.
        error: Error,
    },
    /// Streams go on over another connection.
    #[non_exhaustive]
    Attached {
        /// The address of the connection over which they go on.
        address: Address,
        /// How many.
        streams: usize,
        /// Why they left the one before.
        reason: ResumeReason,
        /// From the loss of the one before until the attach was sent; zero where it is still up.
        gap: Duration,
    },
    /// Streams end as truncated, because they cannot be attached.
    #[non_exhaustive]
    GaveUp {
        /// The address of the connection that they had lost.
        address: Address,
        /// How many.
        streams: usize,
        /// Why.
        why: String,
    },
}

impl fmt::Display for ConnectionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { address, process, took } => {
                write!(f, "connected to {address}, process {process}, in {took:.1?}")
            }
            Self::Lost { address, streams, error } => {
                write!(f, "lost {address} with {streams} streams: {error}")
            }
            Self::Attached { address, streams, reason, gap } => {
                let reason = reason.as_str();
                write!(f, "attached {streams} streams over {address} after {gap:.1?} ({reason})")
            }
            Self::GaveUp { address, streams, why } => {
                write!(f, "gave {streams} streams of {address} up: {why}")
            }
        }
    }
}

/// Hears of the connections of a process.
pub trait OnConnectionEvent: Send + Sync {
    /// Called by the tasks that make and read connections, outside all locks, so it must not block.
    fn on_event(&self, event: &ConnectionEvent);
}

impl<F: Fn(&ConnectionEvent) + Send + Sync> OnConnectionEvent for F {
    fn on_event(&self, event: &ConnectionEvent) {
        self(event);
    }
}

/// Who hears of the connections of a process: nobody, unless one is set.
#[derive(Clone, Default)]
pub struct ConnectionEvents(Option<Arc<dyn OnConnectionEvent>>);

impl ConnectionEvents {
    /// Events go to `listener`.
    pub fn to(listener: Arc<dyn OnConnectionEvent>) -> Self {
        Self(Some(listener))
    }

    /// True if somebody hears of them.
    pub fn are_heard(&self) -> bool {
        self.0.is_some()
    }

    fn tell(&self, event: impl FnOnce() -> ConnectionEvent) {
        if let Some(listener) = &self.0 {
            listener.on_event(&event());
        }
    }

    /// Tells of a connection that is up.
    pub fn connected(&self, address: &Address, process: ProcessId, took: Duration) {
        self.tell(|| ConnectionEvent::Connected { address: address.clone(), process, took });
    }

    /// Tells of the loss of a connection that had so many streams.
    pub fn lost(&self, address: &Address, streams: usize, error: &Error) {
        self.tell(|| {
            let (address, error) = (address.clone(), error.clone());
            ConnectionEvent::Lost { address, streams, error }
        });
    }

    /// Tells of streams that go on over a connection.
    pub fn attached(&self, address: &Address, streams: usize, why: ResumeReason, gap: Duration) {
        let reason = why;
        self.tell(|| ConnectionEvent::Attached { address: address.clone(), streams, reason, gap });
    }

    /// Tells of streams that are given up.
    pub fn gave_up(&self, address: &Address, streams: usize, why: &str) {
        self.tell(|| {
            let (address, why) = (address.clone(), why.to_owned());
            ConnectionEvent::GaveUp { address, streams, why }
        });
    }
}

impl fmt::Debug for ConnectionEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionEvents").field("are_heard", &self.are_heard()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::Code;

    #[test]
    fn each_event_is_told_as_a_line_and_to_nobody_unless_somebody_is_there() {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let hears = Arc::clone(&heard);
        let listener = move |event: &ConnectionEvent| hears.lock().unwrap().push(event.to_string());
        let address = Address::new("tcp", "127.0.0.1:7").unwrap();
        for events in [ConnectionEvents::to(Arc::new(listener)), ConnectionEvents::default()] {
            events.connected(&address, ProcessId(7), Duration::from_millis(2));
            events.lost(&address, 3, &Error::new(Code::ConnectionLost, "it broke"));
            events.attached(&address, 3, ResumeReason::Silence, Duration::from_millis(4));
            events.gave_up(&address, 3, "nobody listens");
        }
        let expected = [
            "connected to tcp://127.0.0.1:7, process",
            "lost tcp://127.0.0.1:7 with 3 streams",
            "attached 3 streams over tcp://127.0.0.1:7 after 4.0ms (silence)",
            "gave 3 streams of tcp://127.0.0.1:7 up: nobody listens",
        ];
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), expected.len(), "{heard:?}");
        for (line, start) in heard.iter().zip(expected) {
            assert!(line.starts_with(start), "{line}");
        }
    }

    #[test]
    fn each_reason_stands_at_its_place() {
        for (place, reason) in ResumeReason::ALL.iter().enumerate() {
            assert_eq!(reason.place(), place);
        }
    }
}
