//! Who served a call, and why.

use std::fmt::Write;

use sinew::{Explanation, TransportMoves};
use sinew_telemetry::printable;

/// What `--explain` says: who serves, over what, by which rule, and what was tried before.
pub(crate) fn explained(explanation: &Explanation) -> String {
    let Explanation { instance, why, transport, policy, attempts, .. } = explanation;
    let mut text = format!("served by {instance} over {transport}: {why}");
    if let Some(policy) = policy {
        let (version, author) = (policy.version, printable(&policy.author));
        // Writing to a string does not fail.
        let _ = write!(text, "; {transport} by the policy of {author}, version {version}");
    }
    for (instance, error) in attempts {
        let said = error.app_code().map(|code| format!(", {code}")).unwrap_or_default();
        let _ = write!(
            text,
            "\nbefore that {instance}: {} ({}{said})",
            printable(error.message()),
            error.code()
        );
    }
    text
}

/// What `--explain` says after the end: a line for each move between transports.
pub(crate) fn moved(moves: &TransportMoves) -> Vec<String> {
    moves.all().iter().map(|moved| format!("moved {moved}")).collect()
}
