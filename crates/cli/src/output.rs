//! Text on standard output.

use std::io::{self, Write};

use crate::exit::{Exit, Failure};

/// Prints all of the text. A reader that has gone ends the command as cancelled; any other failure,
/// such as a full disk, is one of the command.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Exit::Cancelled, "nobody reads the output"),
        _ => Failure::new(Exit::Failed, format!("cannot write the output: {error}")),
    })
}
