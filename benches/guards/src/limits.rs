//! The limits: what each operation was measured to cost, how much more it may, and why it costs
//! that.
//!
//! A number that rises says that the hot path does more than before: find out what, or pin the
//! new one with the reason in the commit. After an improvement pin the lower one, which keeps it:
//! `cargo xtask guards --print` prints the table with what it measures now. The numbers are those
//! of x86-64 Linux.

use std::fmt;

use self::{Count::*, Slack::*};
use crate::{Load, Load::*};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Count {
    /// Blocks that were asked of the allocator or grown, by both ends.
    Allocations,
    /// Bytes of these blocks.
    AllocatedBytes,
    /// Write calls on the callers' sockets.
    ClientWrites,
    /// Write calls on the server's sockets.
    ServerWrites,
    /// TCP segments that the kernel sent, both ways, with bare acknowledgements.
    Packets,
    /// Instructions of both ends outside the kernel, as callgrind counts them.
    Instructions,
}

impl Count {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Allocations,
        Self::AllocatedBytes,
        Self::ClientWrites,
        Self::ServerWrites,
        Self::Packets,
        Self::Instructions,
    ];

    /// True for what is told per item; the others are per operation.
    pub(crate) fn is_per_item(self) -> bool {
        matches!(self, Self::Allocations | Self::AllocatedBytes | Self::Instructions)
    }

    /// Digits after the point with which it is pinned.
    pub(crate) fn digits(self) -> usize {
        match self {
            Self::AllocatedBytes | Self::Instructions => 0,
            _ => 3,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allocations => "allocations",
            Self::AllocatedBytes => "bytes allocated",
            Self::ClientWrites => "writes of the client",
            Self::ServerWrites => "writes of the server",
            Self::Packets => "packets",
            Self::Instructions => "instructions",
        })
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The load.
    pub load: Load,
    /// What is counted.
    pub count: Count,
    /// What it was when it was pinned.
    pub pinned: f64,
    /// How much more it may be.
    pub slack: Slack,
    /// Why it costs that.
    pub why: &'static str,
}

/// The distance from what was pinned to the limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Slack {
    /// In the unit of the count.
    By(f64),
    /// In hundredths of what was pinned.
    Percent(f64),
}

impl Limit {
    /// The most that is allowed.
    pub fn most(&self) -> f64 {
        self.pinned + self.slack()
    }

    /// Below this the limit has become too wide to keep what was won.
    pub fn least(&self) -> f64 {
        self.pinned - self.slack()
    }

    fn slack(&self) -> f64 {
        match self.slack {
            Slack::By(slack) => slack,
            Slack::Percent(percent) => self.pinned * percent / 100.0,
        }
    }

    /// "per call", "per item", ...
    pub fn unit(&self) -> &'static str {
        match (self.load, self.count.is_per_item()) {
            (Load::Unary1 | Load::Unary64 | Load::Typed | Load::Local | Load::TypedOn, _) => {
                "per call"
            }
            (_, true) => "per item",
            (Load::Stream | Load::TypedItems | Load::LocalItems | Load::TypedItemsOn, false) => {
                "per stream"
            }
            (Load::Pass, false) => "per pass",
        }
    }
}

/// Every load with every count that it has, once: load, count, pinned, slack, why.
#[rustfmt::skip] // One line each, so that it reads as the table that it is.
pub const LIMITS: &[Limit] = &[
    limit(Unary1,       Allocations,      13.001, By(0.1),       "a call, its context and its queue at each end, and what was read"),
    limit(Unary1,       AllocatedBytes,   2437.0, Percent(5.0),  "the state of the exchange, with what it is charged to, the limits of its waits and its head and facts, if there are any; bodies are 128 of it"),
    limit(Unary1,       ClientWrites,      1.000, By(0.01),      "the caller on an idle connection writes by itself, once"),
    limit(Unary1,       ServerWrites,      1.000, By(0.01),      "the item and the end of the response leave together"),
    limit(Unary1,       Packets,           2.000, By(0.1),       "request and response; each carries the acknowledgement of the other"),
    limit(Unary1,       Instructions,    19496.0, Percent(10.0), "both ends, with the runtime and the allocator; the end is kept until the word that it has come"),
    limit(Unary64,      Allocations,       9.125, By(0.2),       "as with one caller, without what a batch shares"),
    limit(Unary64,      AllocatedBytes,   2387.0, Percent(5.0),  "as with one caller, without what a batch shares"),
    limit(Unary64,      ClientWrites,      0.038, By(0.02),      "one write for the requests of all callers that are ready"),
    limit(Unary64,      ServerWrites,      0.031, By(0.02),      "one write for the responses to all requests of a read"),
    limit(Unary64,      Packets,           0.077, By(0.04),      "a packet for each write, and a few bare acknowledgements"),
    limit(Unary64,      Instructions,     9957.0, Percent(10.0), "a batch shares reads, writes and wakes"),
    limit(Stream,       Allocations,       0.078, By(0.01),      "an exchange, and two queues that grow; none for an item"),
    limit(Stream,       AllocatedBytes,    181.0, Percent(5.0),  "a share of a read buffer, kept by the items in it; two queues that grow, where an item may be a run"),
    limit(Stream,       ClientWrites,      1.000, By(0.01),      "the request; 256 items are less than half a window, so there is no credit"),
    limit(Stream,       ServerWrites,      1.000, By(0.01),      "all items of a stream that never waits leave together"),
    limit(Stream,       Packets,           2.001, By(0.5),       "the 18 KiB fit into one packet, as loopback carries 64 KiB"),
    limit(Stream,       Instructions,      535.0, Percent(10.0), "from `try_send` to the consumer's poll, with a share of the exchange"),
    limit(Pass,         Allocations,       0.031, By(0.005),     "a few for each connection, and the list of the burst; none for an item"),
    limit(Pass,         AllocatedBytes,     72.0, Percent(5.0),  "the item with its header, in the buffer that it is read to"),
    limit(Pass,         ClientWrites,      0.016, By(0.01),      "credit for all streams of a connection together, once in 512 passes"),
    limit(Pass,         ServerWrites,      4.000, By(0.01),      "one for each connection, at the end of the burst"),
    limit(Pass,         Packets,           6.016, By(2.0),       "one for each connection and an acknowledgement for every second, when starved for each"),
    limit(Pass,         Instructions,     1741.0, Percent(10.0), "from `try_send` to the consumer's poll, with the wake of its task"),
    limit(Typed,        Allocations,      25.005, Percent(5.0),  "the bare call, and the value, its encoding, the router's choice and what the engine returns"),
    limit(Typed,        AllocatedBytes,   3919.0, Percent(20.0), "the state of the exchange at both ends, and the message four times"),
    limit(Typed,        Instructions,    34706.0, Percent(10.0), "routing, admission, a wake of the task that serves, and MessagePack both ways; the word that an end has come"),
    limit(TypedItems,   Allocations,       2.139, Percent(5.0),  "a text at each end, and a buffer for each run"),
    limit(TypedItems,   AllocatedBytes,    368.0, Percent(20.0), "two texts of 64 B and the encoded item"),
    limit(TypedItems,   Instructions,     2135.0, Percent(10.0), "MessagePack both ways, and the engine's stream; items are encoded, sent and read in runs"),
    limit(Local,        Allocations,       8.000, Percent(5.0),  "the context, the response with its source and its counts, and the message"),
    limit(Local,        AllocatedBytes,   1144.0, Percent(20.0), "most of it the state of the engine's future and of the context"),
    limit(Local,        Instructions,     6111.0, Percent(10.0), "the choice, the place in the tables of this process, admission, and the end"),
    limit(LocalItems,   Allocations,       1.031, Percent(5.0),  "the text of the message"),
    limit(LocalItems,   AllocatedBytes,     68.0, Percent(20.0), "the text of the message"),
    limit(LocalItems,   Instructions,      323.0, Percent(10.0), "the engine's stream, the watch over it, and the allocation of the message"),
    limit(TypedOn,      Allocations,      25.054, Percent(5.0),  "as with telemetry off: handles are looked up once"),
    limit(TypedOn,      AllocatedBytes,   3968.0, Percent(20.0), "as with telemetry off"),
    limit(TypedOn,      Instructions,    35537.0, Percent(10.0), "counters, four readings of the clock, and samples of histograms"),
    limit(TypedItemsOn, Allocations,       2.140, Percent(5.0),  "as with telemetry off"),
    limit(TypedItemsOn, AllocatedBytes,    368.0, Percent(20.0), "as with telemetry off"),
    limit(TypedItemsOn, Instructions,     2140.0, Percent(10.0), "a sum of bytes for each item; the rest is of the request"),
];

const fn limit(load: Load, count: Count, pinned: f64, slack: Slack, why: &'static str) -> Limit {
    Limit { load, count, pinned, slack, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_of_each_load_stands_in_the_table_once() {
        for load in Load::ALL {
            for count in Count::ALL {
                let lines = LIMITS.iter().filter(|it| (it.load, it.count) == (load, count));
                let expected = usize::from(load.counts().contains(&count));
                assert_eq!(lines.count(), expected, "{load} {count}");
            }
        }
    }

    #[test]
    fn a_limit_is_near_what_was_pinned() {
        for limit in LIMITS {
            let Limit { load, count, pinned, .. } = limit;
            // Wider than what it costs, it would let the cost double.
            assert!(limit.most() < 2.0 * pinned, "{load} {count}: the slack is too wide");
        }
    }
}
