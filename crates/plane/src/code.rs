//! Stable error codes, their categories, and whether a handler may have run.

use std::fmt;

/// The category of an error, as in the design documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The network or a connection.
    Transport,
    /// Bytes or calls that break the rules, ours or a peer's.
    Protocol,
    /// An error of the handler, or the caller's own cancel or deadline.
    Application,
    /// A limit was reached, or no instance serves the endpoint.
    Resource,
}

impl Fault {
    /// The category as metric labels and JSON spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Protocol => "protocol",
            Self::Application => "application",
            Self::Resource => "resource",
        }
    }
}

/// Whether a handler may have run for the request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Executed {
    /// It certainly did not run. Sending the request again is safe.
    No,
    /// It may have run. The request may be sent again only if its endpoint declares itself
    /// idempotent.
    Maybe,
    /// It has run.
    Yes,
}

impl Executed {
    /// The number on the wire.
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Maybe => 1,
            Self::Yes => 2,
        }
    }

    /// Reads the number on the wire. Anything unknown reads as [`Self::Maybe`], so that a value of
    /// a later version never makes a resend look safe.
    pub const fn from_wire(number: u8) -> Self {
        match number {
            0 => Self::No,
            2 => Self::Yes,
            _ => Self::Maybe,
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $text:literal, $fault:ident, $executed:ident;)+) => {
        /// What went wrong, as a stable name and number. Names and numbers are never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $variant,)+ }

        impl Code {
            /// Every code, in the order of its number.
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            /// The number on the wire.
            pub const fn to_wire(self) -> u16 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// Reads the number on the wire; `None` for a number of a later version.
            pub const fn from_wire(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// The name, `category.what`, for JSON, logs and people.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The category.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)+ }
            }

            /// Whether a handler may have run, by the code alone. An error may have more precise
            /// information.
            pub const fn executed(self) -> Executed {
                match self { $(Self::$variant => Executed::$executed,)+ }
            }
        }
    };
}

codes! {
    /// No connection could be made.
    ConnectFailed = 101, "transport.connect_failed", Transport, No;
    /// No connection was made within the connect or handshake limit.
    ConnectTimedOut = 102, "transport.connect_timed_out", Transport, No;
    /// The connection broke after the request was sent and before an answer arrived.
    ConnectionLost = 103, "transport.connection_lost", Transport, Maybe;
    /// The connection broke after the handler had begun: the items received are a true prefix.
    Truncated = 104, "transport.truncated", Transport, Yes;
    /// The two ends share no transport.
    NoTransport = 105, "transport.none_in_common", Transport, No;
    /// The worker did not accept the request within the accept limit of the call.
    AcceptTimedOut = 106, "transport.accept_timed_out", Transport, Maybe;
    /// A peer broke the protocol.
    Violation = 201, "protocol.violation", Protocol, Maybe;
    /// No protocol version in common.
    Version = 202, "protocol.version", Protocol, No;
    /// A checksum did not match.
    Corrupt = 203, "protocol.corrupt", Protocol, Maybe;
    /// The request or a response could not be encoded or decoded.
    InvalidPayload = 204, "protocol.invalid_payload", Protocol, No;
    /// Another process answers at the address of the instance.
    WrongPeer = 205, "protocol.wrong_peer", Protocol, No;
    /// A stream with this id is open at the worker already, or has ended there recently.
    DuplicateStream = 206, "protocol.duplicate_stream", Protocol, Maybe;
    /// The handler reported an error.
    HandlerFailed = 301, "application.handler_failed", Application, Yes;
    /// The handler dropped its response without an end, or panicked.
    HandlerGone = 302, "application.handler_gone", Application, Yes;
    /// The request was cancelled.
    Cancelled = 303, "application.cancelled", Application, Maybe;
    /// The deadline passed.
    DeadlineExceeded = 304, "application.deadline_exceeded", Application, Maybe;
    /// No item arrived within the first-item limit of the call.
    FirstItemTimedOut = 305, "application.first_item_timed_out", Application, Maybe;
    /// No further item arrived within the idle limit of the call.
    IdleTimedOut = 306, "application.idle_timed_out", Application, Yes;
    /// The server is at capacity.
    Overloaded = 401, "resource.overloaded", Resource, No;
    /// The server finishes the requests in flight and takes no new ones.
    Draining = 402, "resource.draining", Resource, No;
    /// The server does not serve this endpoint or instance.
    UnknownEndpoint = 403, "resource.unknown_endpoint", Resource, No;
    /// Discovery has no instance of the endpoint.
    NoInstances = 404, "resource.no_instances", Resource, No;
    /// A message, item or header block is over its limit.
    TooLarge = 405, "resource.too_large", Resource, No;
    /// A limit of this process is reached.
    Exhausted = 406, "resource.exhausted", Resource, No;
    /// The producer no longer keeps the requested part of the stream.
    ResumeExpired = 407, "resource.resume_expired", Resource, Yes;
    /// The worker drains and has ended the stream, so that its router goes on with it elsewhere.
    HandedOver = 408, "resource.handed_over", Resource, Yes;
    /// The request was run again for a stream whose worker was lost, and the new run differs from the
    /// items that the caller has. See [`Error::diverged_at`](crate::Error::diverged_at).
    Diverged = 409, "application.diverged", Application, Yes;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_round_trips_and_its_word_names_its_category() {
        for code in Code::ALL {
            assert_eq!(Code::from_wire(code.to_wire()), Some(*code));
            assert!(code.as_str().starts_with(code.fault().as_str()), "{code}");
        }
        assert_eq!(Code::from_wire(9), None);
    }

    #[test]
    fn an_unknown_executed_never_makes_a_resend_safe() {
        assert_eq!(Executed::from_wire(77), Executed::Maybe);
    }
}
