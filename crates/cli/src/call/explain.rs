//! Who served a call, and why.

use std::fmt::Write;

use sinew::Explanation;
use sinew_telemetry::printable;

/// What `--explain` says: who serves, over what, by which rule, and what was tried before.
pub(crate) fn explained(explanation: &Explanation) -> String {
    let Explanation { instance, why, transport, attempts, .. } = explanation;
    let mut text = format!("served by {instance} over {transport}: {why}");
    for (instance, error) in attempts {
        let said = error.app_code().map(|code| format!(", {code}")).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\nbefore that {instance}: {} ({}{said})",
            printable(error.message()),
            error.code()
        );
    }
    text
}
