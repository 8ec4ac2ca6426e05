//! What each crate must not know: the sentences of docs/ARCHITECTURE.md, read from the edges.

use crate::workspace::{Kind, Package};

/// Crates that a sentence names together.
type Group = &'static [&'static str];

const CODEC: Group = &["codec"];
const PROTOCOL: Group = &["mux", "mux-driver"];
const DRIVER: Group = &["mux-driver"];
const CARRIERS: Group = &["net"];
const DYNAMO: Group = &["dynamo-wire", "compat-dynamo"];
const TRANSPORTS: Group = &[
    "transport-memory",
    "transport-tcp",
    "transport-http",
    "transport-quic",
    "transport-websocket",
    "transport-grpc",
    "transport-webrtc",
];
const PLANES: Group = &["transport-nats", "plane-call-home", "plane-request-tcp"];
const CALL_HOME: Group = &["plane-call-home"];
const SPLIT: Group = &["split", "compat-dynamo"];
const DISCOVERY: Group = &["discovery", "membership"];
const CHOICE: Group = &["registry", "router"];
const ROUTER: Group = &["router"];
const SERVING: Group = &["ingress"];

/// A crate, and what it must not reach: neither itself nor through others. Crates to come have
/// their rows from the beginning, so that they are built to them.
pub(super) const MUST_NOT: &[(&str, &[Group])] = &[
    ("plane", &[CARRIERS, PROTOCOL, TRANSPORTS, PLANES, DYNAMO, DISCOVERY]),
    ("mux", &[CARRIERS, DRIVER, TRANSPORTS, PLANES, DYNAMO, DISCOVERY]),
    ("net", &[PROTOCOL, TRANSPORTS, PLANES, DYNAMO, DISCOVERY]),
    ("dynamo-wire", &[CARRIERS, PROTOCOL, TRANSPORTS, PLANES, DISCOVERY]),
    ("telemetry", &[CHOICE, SERVING, DISCOVERY, TRANSPORTS]),
    ("mux-driver", &[TRANSPORTS, PLANES, DYNAMO, DISCOVERY, CHOICE]),
    ("discovery", &[CARRIERS, PROTOCOL, TRANSPORTS, PLANES, DYNAMO, CHOICE]),
    ("transport-memory", &[CARRIERS, PROTOCOL, TRANSPORTS, PLANES, DYNAMO, DISCOVERY, CHOICE]),
    ("transport-tcp", &[TRANSPORTS, PLANES, DYNAMO, DISCOVERY, CHOICE]),
    ("transport-nats", &[CARRIERS, PROTOCOL, TRANSPORTS, PLANES, SPLIT, DISCOVERY, CHOICE]),
    ("plane-call-home", &[TRANSPORTS, PLANES, SPLIT, DISCOVERY, CHOICE]),
    ("plane-request-tcp", &[PROTOCOL, TRANSPORTS, CALL_HOME, SPLIT, DISCOVERY, CHOICE]),
    ("registry", &[CARRIERS, PROTOCOL, TRANSPORTS, PLANES, DYNAMO, ROUTER, SERVING]),
    ("router", &[CARRIERS, PROTOCOL, TRANSPORTS, PLANES, DYNAMO, SERVING]),
    ("ingress", &[CARRIERS, PROTOCOL, TRANSPORTS, PLANES, DYNAMO, ROUTER]),
    ("split", &[CARRIERS, PROTOCOL, TRANSPORTS, PLANES, DISCOVERY, CHOICE]),
    ("compat-dynamo", &[CARRIERS, PROTOCOL, TRANSPORTS, PLANES, DISCOVERY, CHOICE]),
];

/// Sockets of the system, and servers on them.
const SOCKETS: Group = &["async-nats", "axum", "hyper", "mio", "rustix", "socket2"];
/// What runs tasks and reads clocks.
const TASKS: Group = &["async-std", "futures-timer", "smol", "tokio"];
/// How values are written down.
const FORMATS: Group = &["bincode", "rmp-serde", "serde", "serde_json"];
/// What lies below the facade, telemetry apart.
const BELOW_FACADE: Group = &[
    "codec",
    "compat-dynamo",
    "discovery",
    "dynamo-wire",
    "folder",
    "ingress",
    "mux",
    "mux-driver",
    "net",
    "plane",
    "plane-call-home",
    "plane-request-tcp",
    "registry",
    "router",
    "split",
    "transport-memory",
    "transport-nats",
    "transport-tcp",
];

/// A crate, and what its own manifest must not name: folders of ours, or crates of others. Only
/// names are looked at, so `tokio` may stand where its feature `net` is off, as in `plane`.
pub(super) const MUST_NOT_NAME: &[(&str, &[Group])] = &[
    ("codec", &[SOCKETS, TASKS]),
    ("folder", &[TASKS, FORMATS]),
    ("plane", &[SOCKETS, FORMATS]),
    ("mux", &[SOCKETS, TASKS, FORMATS, &["fastrand", "tokio-util"]]),
    ("dynamo-wire", &[SOCKETS, TASKS]),
    ("transport-memory", &[SOCKETS, FORMATS]),
    ("transport-nats", &[CODEC]),
    ("registry", &[SOCKETS, FORMATS]),
    ("router", &[SOCKETS, FORMATS]),
    ("ingress", &[SOCKETS, FORMATS]),
    ("split", &[SOCKETS]),
    ("compat-dynamo", &[SOCKETS]),
    ("runtime-facade", &[PROTOCOL]),
    ("cli", &[BELOW_FACADE]),
];

/// A sentence that does not hold yet.
pub(crate) struct Exception {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    /// The move of docs/ARCHITECTURE.md, "Where it goes", that ends it.
    until: &'static str,
}

/// What is allowed although a sentence forbids it. This list only shrinks.
pub(crate) const EXCEPTIONS: &[Exception] = &[];

/// A message for each sentence that is broken, and for each exception that is not needed.
pub(super) fn check(packages: &[Package], exceptions: &[Exception]) -> Vec<String> {
    let mut faults = Vec::new();
    for (from, groups) in MUST_NOT {
        for to in named(from, groups) {
            let way = way(packages, from, to);
            let exception = exceptions.iter().find(|it| it.from == *from && it.to == to);
            match (way, exception) {
                (Some(way), None) => faults.push(broken(from, to, &way)),
                (None, Some(exception)) if exists(packages, from) => {
                    faults.push(needless(exception))
                }
                _ => {}
            }
        }
    }
    for (from, groups) in MUST_NOT_NAME {
        let named = named(from, groups);
        let is_forbidden = |to: &&str| named.contains(to);
        faults.extend(
            direct(packages, from).filter(is_forbidden).map(|to| broken(from, to, &[from, to])),
        );
    }
    faults
}

/// The crates of some groups; a crate that is in one of its own is not meant.
fn named(from: &str, groups: &[Group]) -> Vec<&'static str> {
    groups.iter().flat_map(|group| group.iter().copied()).filter(|to| *to != from).collect()
}

fn exists(packages: &[Package], folder: &str) -> bool {
    packages.iter().any(|package| package.folder == folder)
}

/// What a crate names as normal and build dependencies: folders of ours, crates of others.
pub(crate) fn direct<'p>(packages: &'p [Package], from: &str) -> impl Iterator<Item = &'p str> {
    let package = packages.iter().find(|package| package.folder == from);
    let lines = package.into_iter().flat_map(|package| &package.dependencies);
    lines.filter(|line| line.kind != Kind::Dev).map(|line| {
        let ours = packages.iter().find(|package| line.local && package.name == line.name);
        ours.map_or(line.name.as_str(), |package| package.folder.as_str())
    })
}

/// A shortest way from one crate to another along dependencies, with both its ends.
fn way<'p>(packages: &'p [Package], from: &'p str, to: &str) -> Option<Vec<&'p str>> {
    let mut ways = vec![vec![from]];
    let mut next = 0;
    while let Some(way) = ways.get(next).cloned() {
        let end = way.last().copied().unwrap_or(from);
        if end == to {
            return Some(way);
        }
        for step in direct(packages, end) {
            if !ways.iter().any(|known| known.last() == Some(&step)) {
                ways.push([way.as_slice(), &[step]].concat());
            }
        }
        next += 1;
    }
    None
}

fn broken(from: &str, to: &str, way: &[&str]) -> String {
    format!(
        "{} is not allowed.\n  Rule: {from} must not know {to} (docs/ARCHITECTURE.md).\n  Do: take \
         what it needs through a trait of a lower crate, and let the crate that knows both pass \
         it in.",
        way.join(" -> ")
    )
}

fn needless(Exception { from, to, until }: &Exception) -> String {
    format!(
        "{from} does not reach {to} any more.\n  Rule: the list of exceptions only shrinks; this \
         one was kept until {until}.\n  Do: take it out of EXCEPTIONS in \
         xtask/src/layers/sentences.rs, and say in docs/ARCHITECTURE.md that the sentence holds."
    )
}

#[cfg(test)]
pub(crate) mod tests;
