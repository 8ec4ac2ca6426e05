//! Which metrics of which workloads are told, and how the groups of workloads are introduced.

use super::measures::{
    Better::{self, Higher, Lower},
    Group, Measure, Told,
};

/// What stands before the title of a measure, by workload. Workloads that are named after a number
/// of callers have that.
pub(super) const VARIANTS: &[(&str, &str)] = &[
    ("passes-flat", "flat out"),
    ("passes-paced", "paced"),
    ("passes-two-flat", "two engines flat out"),
    ("passes-two-paced", "two engines paced"),
    ("passes-1024-flat", "1,024 streams flat out"),
    ("passes-1024-paced", "1,024 streams paced"),
    ("paced-64", "64 streams"),
    ("paced-512", "512 streams"),
    ("idle-1000", "1,000 streams"),
];

const fn by_peer(
    workload: &'static str,
    metric: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
) -> Measure {
    Measure { workload, metric, title, unit, better, told: Told::ByPeer }
}

/// Only where the report compares pooled and unpooled call-home.
const fn pooled(
    workload: &'static str,
    metric: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
) -> Measure {
    Measure { told: Told::Pooled, ..by_peer(workload, metric, title, unit, better) }
}

/// In both places.
const fn both(
    workload: &'static str,
    metric: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
) -> Measure {
    Measure { told: Told::Both, ..by_peer(workload, metric, title, unit, better) }
}

/// The measures of the standard workloads, in the order of the report. The first of a workload
/// stands for it in short.
pub(super) const STANDARD: &[Measure] = &[
    both("unary-1", "p50_us", "median latency", "µs", Lower),
    both("unary-1", "p99_us", "99th percentile of latency", "µs", Lower),
    by_peer("unary-16", "per_second", "requests per second", "/s", Higher),
    pooled("unary-16", "p50_us", "median latency", "µs", Lower),
    pooled("unary-16", "p99_us", "99th percentile of latency", "µs", Lower),
    by_peer("unary-64", "per_second", "requests per second", "/s", Higher),
    pooled("unary-64", "p50_us", "median latency", "µs", Lower),
    pooled("unary-64", "p99_us", "99th percentile of latency", "µs", Lower),
    both("unary-64", "cpu_us", "CPU per request, both sides", "µs", Lower),
    pooled("unary-64", "response_connections", "connections", "connections", Lower),
    pooled("unary-64", "pool_reuse_percent", "reuse of connections", "%", Higher),
    by_peer("unary-256", "per_second", "requests per second", "/s", Higher),
    by_peer("stream-1", "items_per_second", "items per second", "/s", Higher),
    both("stream-1", "first_p50_us", "median time to the first item", "µs", Lower),
    pooled("stream-1", "first_p99_us", "99th percentile of it", "µs", Lower),
    by_peer("stream-1", "cpu_ns", "CPU per item, both sides", "ns", Lower),
    by_peer("stream-16", "items_per_second", "items per second", "/s", Higher),
    pooled("stream-16", "first_p50_us", "median time to the first item", "µs", Lower),
    pooled("stream-16", "first_p99_us", "99th percentile of it", "µs", Lower),
    by_peer("stream-16", "cpu_ns", "CPU per item, both sides", "ns", Lower),
    by_peer("stream-64", "items_per_second", "items per second", "/s", Higher),
    pooled("stream-64", "first_p50_us", "median time to the first item", "µs", Lower),
    pooled("stream-64", "first_p99_us", "99th percentile of it", "µs", Lower),
    both("stream-64", "cpu_ns", "CPU per item, both sides", "ns", Lower),
    pooled("stream-64", "response_connections", "connections", "connections", Lower),
    pooled("stream-64", "pool_reuse_percent", "reuse of connections", "%", Higher),
    by_peer("passes-flat", "items_per_second", "items per second", "/s", Higher),
    by_peer("passes-flat", "cpu_ns", "CPU per item, both sides", "ns", Lower),
    by_peer("passes-flat", "writes_per_pass", "writes per pass", "", Lower),
    by_peer("passes-flat", "items_per_write", "items per write", "", Higher),
    by_peer("passes-flat", "client_writes_per_pass", "clients' writes per pass", "", Lower),
    by_peer("passes-paced", "writes_per_pass", "writes per pass", "", Lower),
    by_peer("passes-paced", "items_per_write", "items per write", "", Higher),
    by_peer("passes-paced", "cpu_ns", "CPU per item, both sides", "ns", Lower),
    by_peer("passes-paced", "last_p50_us", "median time to the last item", "µs", Lower),
    by_peer("passes-paced", "last_p99_us", "99th percentile of it", "µs", Lower),
    by_peer("passes-two-flat", "items_per_second", "items per second", "/s", Higher),
    by_peer("passes-two-flat", "cpu_ns", "CPU per item, both sides", "ns", Lower),
    by_peer("passes-two-paced", "last_p50_us", "median time to the last item", "µs", Lower),
    by_peer("passes-two-paced", "last_p99_us", "99th percentile of it", "µs", Lower),
    by_peer("passes-two-paced", "items_per_write", "items per write", "", Higher),
    by_peer("passes-two-paced", "cpu_ns", "CPU per item, both sides", "ns", Lower),
    by_peer("passes-1024-flat", "items_per_second", "items per second", "/s", Higher),
    by_peer("passes-1024-flat", "cpu_ns", "CPU per item, both sides", "ns", Lower),
    by_peer("passes-1024-paced", "last_p50_us", "median time to the last item", "µs", Lower),
    by_peer("passes-1024-paced", "last_p99_us", "99th percentile of it", "µs", Lower),
    by_peer("passes-1024-paced", "items_per_write", "items per write", "", Higher),
    by_peer("passes-1024-paced", "cpu_ns", "CPU per item, both sides", "ns", Lower),
    by_peer("paced-64", "deviation_p99_us", "99th percentile of the deviation", "µs", Lower),
    by_peer("paced-64", "cpu_us", "CPU per item, both sides", "µs", Lower),
    by_peer("paced-512", "deviation_p99_us", "99th percentile of the deviation", "µs", Lower),
    by_peer("paced-512", "cpu_us", "CPU per item, both sides", "µs", Lower),
    by_peer("paced-512", "items_percent", "items that came of those due", "%", Higher),
    by_peer("large-1", "mib_per_second", "throughput", "MiB/s", Higher),
    by_peer("large-4", "mib_per_second", "throughput", "MiB/s", Higher),
    by_peer("idle", "client_bytes", "memory per stream, client", "B", Lower),
    by_peer("idle", "server_bytes", "memory per stream, server", "B", Lower),
    both("idle-1000", "client_bytes", "memory of each, client", "B", Lower),
    both("idle-1000", "server_bytes", "memory of each, server", "B", Lower),
    pooled("idle-1000", "response_connections", "connections", "connections", Lower),
    by_peer("connect", "p50_us", "median until the first answer", "µs", Lower),
    by_peer("connect", "p99_us", "99th percentile of it", "µs", Lower),
    by_peer("connect", "cpu_us", "CPU of each, both sides", "µs", Lower),
    by_peer("slow", "kept_percent", "rate that the fast keep", "%", Higher),
    by_peer("slow", "items_per_second", "items per second of the fast", "/s", Higher),
];

/// Those of a group with another number of callers, whatever the number.
pub(super) const VARIED: &[Measure] = &[
    by_peer("unary", "per_second", "requests per second", "/s", Higher),
    both("unary", "p50_us", "median latency", "µs", Lower),
    both("unary", "p99_us", "99th percentile of latency", "µs", Lower),
    both("unary", "cpu_us", "CPU per request, both sides", "µs", Lower),
    by_peer("stream", "items_per_second", "items per second", "/s", Higher),
    both("stream", "first_p50_us", "median time to the first item", "µs", Lower),
    both("stream", "cpu_ns", "CPU per item, both sides", "ns", Lower),
];

/// In the order of the report. `{body}` and `{item}` stand for sizes.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "unary",
        title: "Unary calls",
        about: "Requests of {body}, each answered with one item of {body}. Each caller sends the \
                next request when it has the end of the last response; all share one connection.",
    },
    Group {
        name: "stream",
        title: "Short streams",
        about: "Requests of 512 B, each answered with 256 items of {item} as fast as they are \
                taken. A handler task sends what it has and flushes when there is no room and at \
                the end.",
    },
    Group {
        name: "passes",
        title: "The forward pass",
        about: "An engine emits one item of {item} on each of 256 long streams per pass, as a \
                decode step of an inference server does. The streams belong to 4 callers, each \
                a process with a connection to each engine, and have a consumer task each. Where \
                there are two engines, each is a process and has half of the streams. The time to \
                the last item is from the start of a pass until the last of its items was received \
                by any of the callers. Flat out, a pass leaves out \
                streams without credit and the next begins when they have it again; paced, there \
                is a pass every 5 ms. Writes are those of the server's sockets; those of the \
                clients carry credit.",
    },
    Group {
        name: "paced",
        title: "Paced streams",
        about: "Streams on one connection, on each of which a task of the server sends an item of \
                {item} every 10 ms, as long generations do. The deviation is how much longer or \
                shorter than 10 ms the time between two items is when they arrive.",
    },
    Group {
        name: "large",
        title: "Large bodies",
        about: "Requests of 1 MiB, each answered with one item of 1 MiB, over one connection. \
                MiB per second count both ways.",
    },
    Group {
        name: "idle",
        title: "Idle streams",
        about: "10,000 streams on one connection, taken by the server and then silent. What the \
                resident memory of each process has grown by, divided by 10,000. A stream of the \
                raw muxes is little more than a number: an empty queue and its table entry at the \
                client; a pointer and the number at the server, where it can neither be cancelled \
                nor run out of credit. Their ratio was made a target when the raw mux took 1,350 B \
                and 900 B, so a bound in bytes stands beside it.",
    },
    Group {
        name: "connect",
        title: "Connecting",
        about: "A new client, its connection and all that goes before, a request of 128 B and its \
                answer; one after the other, each without anything of the one before.",
    },
    Group {
        name: "slow",
        title: "A slow reader",
        about: "16 callers of short streams, first alone and then with one more stream on their \
                connection, whose server sends as fast as it may and whose reader takes an item per \
                10 ms. The raw muxes have no flow control and would pile up what the reader leaves, \
                so they have no part in it.",
    },
];
