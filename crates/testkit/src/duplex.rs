//! The cases that every duplex transport passes, in modules by what they are about.
//!
//! A case panics when the transport fails it, and waits for events only, each wait bounded by
//! [`within`](crate::within). `I1` and so on in messages are the invariants of
//! [`check`](crate::check).

pub mod burst;
pub mod cancel;
pub mod concurrency;
pub mod credit;
pub mod deadline;
pub mod detached;
pub mod lifecycle;
pub mod limits;
pub mod loss;
pub mod metadata;
pub mod order;
pub mod request;
pub mod resume;
pub mod runs;
pub mod sizes;
pub mod terminals;
pub mod waits;

/// The sources of the cases, whose documentation is the list of the rules.
const SOURCES: [(&str, &str); 17] = [
    ("burst", include_str!("duplex/burst.rs")),
    ("cancel", include_str!("duplex/cancel.rs")),
    ("concurrency", include_str!("duplex/concurrency.rs")),
    ("credit", include_str!("duplex/credit.rs")),
    ("deadline", include_str!("duplex/deadline.rs")),
    ("detached", include_str!("duplex/detached.rs")),
    ("lifecycle", include_str!("duplex/lifecycle.rs")),
    ("limits", include_str!("duplex/limits.rs")),
    ("loss", include_str!("duplex/loss.rs")),
    ("metadata", include_str!("duplex/metadata.rs")),
    ("order", include_str!("duplex/order.rs")),
    ("runs", include_str!("duplex/runs.rs")),
    ("request", include_str!("duplex/request.rs")),
    ("resume", include_str!("duplex/resume.rs")),
    ("sizes", include_str!("duplex/sizes.rs")),
    ("terminals", include_str!("duplex/terminals.rs")),
    ("waits", include_str!("duplex/waits.rs")),
];

/// What a transport must do to pass `module::case`, in the words of the case's documentation.
pub(crate) fn rule(case: &str) -> Option<String> {
    let (module, name) = case.split_once("::")?;
    let (_, source) = SOURCES.iter().find(|(known, _)| *known == module)?;
    let lines: Vec<_> = source.lines().collect();
    let head = format!("pub async fn {name}(");
    let at = lines.iter().position(|line| line.starts_with(&head))?;
    let above = lines[..at].iter().rev().map_while(|line| line.strip_prefix("///"));
    let mut words: Vec<_> = above.map(str::trim).collect();
    words.reverse();
    Some(words.join(" "))
}
