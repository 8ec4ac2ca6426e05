//! Short lists for messages.

use std::fmt::Display;

/// Entries that one message names.
const NAMED: usize = 8;

/// The first eight of a list, and dots if there are more.
///
/// ```
/// use sinew_telemetry::first_few;
///
/// assert_eq!(first_few(1..=3, ", "), "1, 2, 3");
/// assert_eq!(first_few(1..=1000_u16, "; "), "1; 2; 3; 4; 5; 6; 7; 8; ...");
/// ```
pub fn first_few<T: Display>(all: impl IntoIterator<Item = T>, between: &str) -> String {
    let mut all = all.into_iter();
    let mut shown: Vec<_> = all.by_ref().take(NAMED).map(|one| one.to_string()).collect();
    if all.next().is_some() {
        shown.push("...".to_owned());
    }
    shown.join(between)
}
