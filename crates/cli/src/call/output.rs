//! Standard output, written in few and large pieces.

use std::io::{self, IsTerminal};

use tokio::io::{AsyncWriteExt, Stdout};

use crate::exit::{Exit, Failure};

/// How much is gathered before it is written, in bytes: beyond some ten thousand a system call
/// is no longer what costs.
const FULL: usize = 64 * 1024;

/// Standard output with a buffer in front of it.
pub(crate) struct Output {
    stdout: Stdout,
    buffer: Vec<u8>,
    /// A person watches, who sees each item at once.
    is_terminal: bool,
    /// The last byte that was written.
    last: Option<u8>,
}

impl Output {
    pub(crate) fn stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self { stdout: tokio::io::stdout(), buffer: Vec::new(), is_terminal, last: None }
    }

    /// Where to add what is to be written.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// True when enough has gathered.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= if self.is_terminal { 1 } else { FULL }
    }

    /// Writes what is left. On a terminal the last line gets its end, so that the prompt, or our own
    /// message, begins on a line of its own; elsewhere the output is what came, byte for byte.
    pub(crate) async fn finish(&mut self) -> Result<(), Failure> {
        if self.is_terminal && self.is_midway() {
            self.buffer.push(b'\n');
        }
        self.write().await
    }

    fn is_midway(&self) -> bool {
        self.buffer.last().or(self.last.as_ref()).is_some_and(|last| *last != b'\n')
    }

    /// Writes what has gathered. A reader that went away, as `head` does, ends the command
    /// without a word.
    pub(crate) async fn write(&mut self) -> Result<(), Failure> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut written = self.stdout.write_all(&self.buffer).await;
        if written.is_ok() {
            written = self.stdout.flush().await;
        }
        self.last = self.buffer.last().copied();
        self.buffer.clear();
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Cancelled, "nobody reads the output"),
            _ => Failure::new(Exit::Failed, format!("cannot write the output: {error}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_its_end_is_noticed_before_and_behind_a_write() {
        let mut output = Output::stdout();
        assert!(!output.is_midway(), "nothing was printed");
        output.buffer().extend(b"a");
        assert!(output.is_midway());
        output.buffer().extend(b"b\n");
        assert!(!output.is_midway());
        output.buffer().clear();
        output.last = Some(b'a');
        assert!(output.is_midway());
    }
}
