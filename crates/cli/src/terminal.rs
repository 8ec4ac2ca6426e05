//! The terminal that standard output is.

use std::io::{self, IsTerminal};

/// How many characters a line has: of the terminal, or as COLUMNS says for what is none. `None`
/// for a pipe or a file, whose lines may have any length.
pub(crate) fn width() -> Option<usize> {
    let stdout = io::stdout();
    let asked = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let columns = asked.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    columns.or_else(told).filter(|columns| *columns > 0)
}
