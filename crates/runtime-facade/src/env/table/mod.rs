//! Every setting, one row each.
//!
//! To add a setting: add a row to the part that it belongs to, a case to `env/tests/cases.rs`, and
//! write the page again: `cargo run -- config reference --format markdown > docs/settings.md`.

mod connections;
mod discovery;
mod dynamo;
mod limits;
mod listening;
pub(super) mod logging;
mod nats;
mod other_programs;
mod planes;
mod runtime_dir;

use std::fmt;

use crate::env::setting::Setting;

/// The subject of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Where instances are announced and found.
    Discovery,
    /// Which planes requests take.
    Planes,
    /// NATS.
    Nats,
    /// Where this process listens, and the addresses that it announces.
    Listening,
    /// The calling side of connections.
    Connections,
    /// Limits and waits of the process.
    Limits,
    /// What the `sinew` command logs, and its threads.
    Logging,
    /// Folders of the user.
    Place,
    /// Variables of Dynamo's runtime without an effect here, or that no build supports.
    Dynamo,
    /// Variables of other Dynamo programs: models, front ends, caches.
    OtherPrograms,
}

/// The settings by subject, in the order of the page.
pub(super) const PARTS: &[(Part, &[Setting])] = &[
    (Part::Discovery, discovery::SETTINGS),
    (Part::Planes, planes::SETTINGS),
    (Part::Nats, nats::SETTINGS),
    (Part::Listening, listening::SETTINGS),
    (Part::Connections, connections::SETTINGS),
    (Part::Limits, limits::SETTINGS),
    (Part::Logging, logging::SETTINGS),
    (Part::Place, runtime_dir::SETTINGS),
    (Part::Dynamo, dynamo::SETTINGS),
    (Part::OtherPrograms, other_programs::SETTINGS),
];

/// Prefixes of variables that are in no row and ask for the same.
pub(super) const FAMILIES: &[(&str, &str)] = &[("DYN_TCP_TLS_", dynamo::TLS)];

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discovery => "Where instances are announced and found",
            Self::Planes => "How requests travel",
            Self::Nats => "NATS",
            Self::Listening => "Where a process listens, and what others are told",
            Self::Connections => "Connections to workers and callers",
            Self::Limits => "Limits and waits of a process",
            Self::Logging => "Logs and threads of the sinew command",
            Self::Place => "Folders",
            Self::Dynamo => "Variables of Dynamo's runtime that change nothing here",
            Self::OtherPrograms => "Variables of Dynamo that are for other programs",
        })
    }
}
