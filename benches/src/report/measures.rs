//! What is read from the samples: which metric of which workload, in which unit.

/// Workloads that are told together.
#[derive(Debug)]
pub(crate) struct Group {
    /// The part of their names before the dash.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What is done, in the report.
    pub(crate) about: &'static str,
}

/// One table of the report.
#[derive(Debug)]
pub(crate) struct Measure {
    pub(crate) workload: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) told: Told,
}

/// Where the report tells a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// In a table of its own, with all peers.
    ByPeer,
    /// Beside the others of pooled and unpooled call-home.
    Pooled,
    Both,
}

impl Told {
    pub(crate) fn by_peer(self) -> bool {
        self != Self::Pooled
    }

    pub(crate) fn pooled(self) -> bool {
        self != Self::ByPeer
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

impl Better {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Lower => "lower is better",
            Self::Higher => "higher is better",
        }
    }
}

pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "unary",
        title: "Unary calls",
        about: "Requests of 128 B, each answered with one item of 128 B. Each caller sends the \
                next request when it has the end of the last response; all share one connection.",
    },
    Group {
        name: "stream",
        title: "Short streams",
        about: "Requests of 512 B, each answered with 256 items of 64 B as fast as they are \
                taken. A handler task sends what it has and flushes when there is no room and at \
                the end.",
    },
    Group {
        name: "passes",
        title: "The forward pass",
        about: "An engine emits one item of 64 B on each of 256 long streams per pass, as a \
                decode step of an inference server does. The streams belong to 4 callers with a \
                connection each and have a consumer task each. Where there are two engines, each is \
                a process, has half of the streams, and has a connection from each caller. The time \
                to the last item is from the start of a pass until its last item was received. Flat out, a pass leaves out \
                streams without credit and the next begins when they have it again; paced, there \
                is a pass every 5 ms. Writes are those of the server's sockets; those of the \
                clients carry credit.",
    },
    Group {
        name: "paced",
        title: "Paced streams",
        about: "Streams on one connection, on each of which a task of the server sends an item of \
                64 B every 10 ms, as long generations do. The deviation is how much longer or \
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

const fn measure(
    workload: &'static str,
    metric: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
) -> Measure {
    Measure { workload, metric, title, unit, better, told: Told::ByPeer }
}

/// The same where the report compares pooled and unpooled call-home.
const fn pooled(measure: Measure) -> Measure {
    Measure { told: Told::Pooled, ..measure }
}

/// The same in both places.
const fn both(measure: Measure) -> Measure {
    Measure { told: Told::Both, ..measure }
}

use Better::{Higher, Lower};

/// All measures, in the order of the report. The first of a workload stands for it in short.
pub(crate) const ALL: &[Measure] = &[
    both(measure("unary-1", "p50_us", "1 caller, median latency", "µs", Lower)),
    both(measure("unary-1", "p99_us", "1 caller, 99th percentile of latency", "µs", Lower)),
    measure("unary-16", "per_second", "16 callers, requests per second", "/s", Higher),
    pooled(measure("unary-16", "p50_us", "16 callers, median latency", "µs", Lower)),
    pooled(measure("unary-16", "p99_us", "16 callers, 99th percentile of latency", "µs", Lower)),
    measure("unary-64", "per_second", "64 callers, requests per second", "/s", Higher),
    pooled(measure("unary-64", "p50_us", "64 callers, median latency", "µs", Lower)),
    pooled(measure("unary-64", "p99_us", "64 callers, 99th percentile of latency", "µs", Lower)),
    both(measure("unary-64", "cpu_us", "64 callers, CPU per request, both sides", "µs", Lower)),
    pooled(measure(
        "unary-64",
        "response_connections",
        "64 callers, connections",
        "connections",
        Lower,
    )),
    pooled(measure(
        "unary-64",
        "pool_reuse_percent",
        "64 callers, reuse of connections",
        "%",
        Higher,
    )),
    measure("unary-256", "per_second", "256 callers, requests per second", "/s", Higher),
    measure("stream-1", "items_per_second", "1 caller, items per second", "/s", Higher),
    both(measure(
        "stream-1",
        "first_p50_us",
        "1 caller, median time to the first item",
        "µs",
        Lower,
    )),
    pooled(measure("stream-1", "first_p99_us", "1 caller, 99th percentile of it", "µs", Lower)),
    measure("stream-1", "cpu_ns", "1 caller, CPU per item, both sides", "ns", Lower),
    measure("stream-16", "items_per_second", "16 callers, items per second", "/s", Higher),
    pooled(measure(
        "stream-16",
        "first_p50_us",
        "16 callers, median time to the first item",
        "µs",
        Lower,
    )),
    pooled(measure("stream-16", "first_p99_us", "16 callers, 99th percentile of it", "µs", Lower)),
    measure("stream-16", "cpu_ns", "16 callers, CPU per item, both sides", "ns", Lower),
    measure("stream-64", "items_per_second", "64 callers, items per second", "/s", Higher),
    pooled(measure(
        "stream-64",
        "first_p50_us",
        "64 callers, median time to the first item",
        "µs",
        Lower,
    )),
    pooled(measure("stream-64", "first_p99_us", "64 callers, 99th percentile of it", "µs", Lower)),
    both(measure("stream-64", "cpu_ns", "64 callers, CPU per item, both sides", "ns", Lower)),
    pooled(measure(
        "stream-64",
        "response_connections",
        "64 callers, connections",
        "connections",
        Lower,
    )),
    pooled(measure(
        "stream-64",
        "pool_reuse_percent",
        "64 callers, reuse of connections",
        "%",
        Higher,
    )),
    measure("passes-flat", "items_per_second", "flat out, items per second", "/s", Higher),
    measure("passes-flat", "cpu_ns", "flat out, CPU per item, both sides", "ns", Lower),
    measure("passes-flat", "writes_per_pass", "flat out, writes per pass", "", Lower),
    measure("passes-flat", "items_per_write", "flat out, items per write", "", Higher),
    measure(
        "passes-flat",
        "client_writes_per_pass",
        "flat out, clients' writes per pass",
        "",
        Lower,
    ),
    measure("passes-paced", "writes_per_pass", "paced, writes per pass", "", Lower),
    measure("passes-paced", "items_per_write", "paced, items per write", "", Higher),
    measure("passes-paced", "cpu_ns", "paced, CPU per item, both sides", "ns", Lower),
    measure("passes-paced", "last_p50_us", "paced, median time to the last item", "µs", Lower),
    measure("passes-paced", "last_p99_us", "paced, 99th percentile of it", "µs", Lower),
    measure(
        "passes-two-flat",
        "items_per_second",
        "two engines flat out, items per second",
        "/s",
        Higher,
    ),
    measure(
        "passes-two-flat",
        "cpu_ns",
        "two engines flat out, CPU per item, both sides",
        "ns",
        Lower,
    ),
    measure(
        "passes-two-paced",
        "last_p50_us",
        "two engines paced, median time to the last item",
        "µs",
        Lower,
    ),
    measure(
        "passes-two-paced",
        "last_p99_us",
        "two engines paced, 99th percentile of it",
        "µs",
        Lower,
    ),
    measure(
        "passes-two-paced",
        "items_per_write",
        "two engines paced, items per write",
        "",
        Higher,
    ),
    measure(
        "passes-two-paced",
        "cpu_ns",
        "two engines paced, CPU per item, both sides",
        "ns",
        Lower,
    ),
    measure(
        "passes-1024-flat",
        "items_per_second",
        "1,024 streams flat out, items per second",
        "/s",
        Higher,
    ),
    measure(
        "passes-1024-flat",
        "cpu_ns",
        "1,024 streams flat out, CPU per item, both sides",
        "ns",
        Lower,
    ),
    measure(
        "passes-1024-paced",
        "last_p50_us",
        "1,024 streams paced, median time to the last item",
        "µs",
        Lower,
    ),
    measure(
        "passes-1024-paced",
        "last_p99_us",
        "1,024 streams paced, 99th percentile of it",
        "µs",
        Lower,
    ),
    measure(
        "passes-1024-paced",
        "items_per_write",
        "1,024 streams paced, items per write",
        "",
        Higher,
    ),
    measure(
        "passes-1024-paced",
        "cpu_ns",
        "1,024 streams paced, CPU per item, both sides",
        "ns",
        Lower,
    ),
    measure(
        "paced-64",
        "deviation_p99_us",
        "64 streams, 99th percentile of the deviation",
        "µs",
        Lower,
    ),
    measure("paced-64", "cpu_us", "64 streams, CPU per item, both sides", "µs", Lower),
    measure(
        "paced-512",
        "deviation_p99_us",
        "512 streams, 99th percentile of the deviation",
        "µs",
        Lower,
    ),
    measure("paced-512", "cpu_us", "512 streams, CPU per item, both sides", "µs", Lower),
    measure("paced-512", "items_percent", "512 streams, items that came of those due", "%", Higher),
    measure("large-1", "mib_per_second", "1 caller, throughput", "MiB/s", Higher),
    measure("large-4", "mib_per_second", "4 callers, throughput", "MiB/s", Higher),
    measure("idle", "client_bytes", "memory per stream, client", "B", Lower),
    measure("idle", "server_bytes", "memory per stream, server", "B", Lower),
    both(measure("idle-1000", "client_bytes", "1,000 streams, memory of each, client", "B", Lower)),
    both(measure("idle-1000", "server_bytes", "1,000 streams, memory of each, server", "B", Lower)),
    pooled(measure(
        "idle-1000",
        "response_connections",
        "1,000 streams, connections",
        "connections",
        Lower,
    )),
    measure("connect", "p50_us", "median until the first answer", "µs", Lower),
    measure("connect", "p99_us", "99th percentile of it", "µs", Lower),
    measure("connect", "cpu_us", "CPU of each, both sides", "µs", Lower),
    measure("slow", "kept_percent", "rate that the fast keep", "%", Higher),
    measure("slow", "items_per_second", "items per second of the fast", "/s", Higher),
];

impl Measure {
    pub(crate) fn find(workload: &str, metric: &str) -> Option<&'static Self> {
        ALL.iter().find(|measure| measure.workload == workload && measure.metric == metric)
    }

    pub(crate) fn group(&self) -> Option<&'static Group> {
        let group = self.workload.split('-').next();
        GROUPS.iter().find(|known| Some(known.name) == group)
    }

    /// Group and title, for where the measure stands alone.
    pub(crate) fn full_title(&self) -> String {
        let group = self.group().map_or(self.workload, |group| group.title);
        format!("{group}: {}", self.title)
    }

    /// A value as it is read: `17.2 µs`, `400 k/s`.
    pub(crate) fn with_unit(&self, value: f64) -> String {
        match self.unit {
            "µs" if value >= 9_995.0 => format!("{} ms", number(value / 1e3)),
            // Its title says of what.
            "connections" => format!("{value:.0}"),
            // Cut off and not rounded: what is not all must not read as all.
            "%" => format!("{:.2} %", (value * 100.0).floor() / 100.0),
            unit if unit.starts_with('/') || unit.is_empty() => number(value) + unit,
            unit => format!("{} {unit}", number(value)),
        }
    }
}

/// Three digits or so.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value >= 999_500.0 => format!("{:.2} M", value / 1e6),
        value if value >= 99_950.0 => format!("{:.0} k", value / 1e3),
        value if value >= 9_995.0 => format!("{:.1} k", value / 1e3),
        value if value >= 999.5 => {
            let whole = value.round() as u64;
            format!("{},{:03}", whole / 1000, whole % 1000)
        }
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_three_digits() {
        for (value, expected) in [
            (0.031, "0.03"),
            (9.994, "9.99"),
            (17.25, "17.2"),
            (99.96, "100"),
            (1_350.2, "1,350"),
            (1_005.0, "1,005"),
            (17_250.0, "17.2 k"),
            (399_900.0, "400 k"),
            (7_600_000.0, "7.60 M"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn units_fit_their_values() {
        let find = |workload, metric| Measure::find(workload, metric).unwrap();
        let latency = find("unary-1", "p50_us");
        assert_eq!(latency.with_unit(3_076.0), "3,076 µs");
        assert_eq!(latency.with_unit(12_040.0), "12.0 ms");
        assert_eq!(find("idle-1000", "response_connections").with_unit(4.0), "4");
        assert_eq!(find("unary-16", "per_second").with_unit(400_000.0), "400 k/s");
        let reuse = find("unary-64", "pool_reuse_percent");
        assert_eq!(reuse.with_unit(99.999), "99.99 %", "not all, so it must not read as all");
        assert_eq!(reuse.with_unit(100.0), "100.00 %");
    }

    #[test]
    fn every_workload_is_measured_and_every_measure_belongs_to_a_group() {
        for workload in crate::workload::ALL {
            assert!(ALL.iter().any(|measure| measure.workload == workload.name), "{workload:?}");
        }
        for measure in ALL {
            assert!(measure.group().is_some(), "{measure:?}");
            assert!(Measure::find(measure.workload, measure.metric).is_some());
        }
    }
}
