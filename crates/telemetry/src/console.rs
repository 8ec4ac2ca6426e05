//! Messages to standard error that neither fail nor block the program.
//!
//! A reader of standard error may close its end, fill its disk, or stop reading. None of these may
//! change what a program does: a write that fails is dropped, and one for which there is no room is
//! dropped after a short wait. The next message that is written says how much was lost.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::printable::{printable_lines, printable_output};

/// How long a message waits for room before it and those behind it are dropped. Longer than a
/// busy reader takes; short enough that a drain does not feel it.
const PATIENCE: Duration = Duration::from_millis(100);

/// At most this much is written at once: a pipe that reports room takes a page without blocking.
const PIECE: usize = 4096;

static STDERR: Mutex<Stream> = Mutex::new(Stream { is_stuck: false, lost: 0 });

/// Writes a message of this program to standard error, as one line, or as several of which the
/// further ones are indented. Control characters and invisible format characters are escaped. Never
/// fails, and blocks for at most 100 ms.
pub fn tell(message: &str) {
    write(format!("{}\n", printable_lines(message)).as_bytes());
}

/// The label at the start of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// The reason why a command has failed.
    Error,
    /// Advice about an error.
    Hint,
}

impl Label {
    const fn text(self) -> &'static str {
        match self {
            Self::Error => "error:",
            Self::Hint => "hint:",
        }
    }

    /// As command lines commonly have them: errors bold and red, advice green.
    const fn painted(self) -> &'static str {
        match self {
            Self::Error => "\x1b[1;31merror:\x1b[0m",
            Self::Hint => "\x1b[32mhint:\x1b[0m",
        }
    }
}

/// As [`tell`], with a label before it. The label is coloured if standard error is a terminal with
/// colours and the environment does not forbid it (`NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE`).
pub fn tell_labelled(label: Label, message: &str) {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let in_colour = are_colours_wanted(io::stderr().is_terminal(), variable);
    write(labelled(label, message, in_colour).as_bytes());
}

fn labelled(label: Label, message: &str, in_colour: bool) -> String {
    let shown = if in_colour { label.painted() } else { label.text() };
    // Escaped with its label, so that further lines are indented as those of every message.
    let text = printable_lines(&format!("{} {message}", label.text())).into_owned();
    format!("{shown}{}\n", text.strip_prefix(label.text()).unwrap_or(&text))
}

/// See <https://no-color.org> and <https://bixense.com/clicolors>.
fn are_colours_wanted(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_off = || variable("CLICOLOR").is_some_and(|value| value == "0");
    let is_dumb = || variable("TERM").is_none_or(|term| term == "dumb");
    if variable("NO_COLOR").is_some() {
        return false;
    }
    let is_forced = variable("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    is_forced || (is_terminal && !is_off() && !is_dumb())
}

/// Writes the output of another program to standard error. Line ends, tabs and colours stay; other
/// control characters are escaped. Never fails, and blocks for at most 100 ms.
pub fn pass_on(output: &[u8]) {
    write(printable_output(output, true).as_bytes());
}

/// Writes bytes that are fit to be shown.
pub(crate) fn write(bytes: &[u8]) {
    let mut stream = STDERR.lock().unwrap_or_else(PoisonError::into_inner);
    stream.put(&mut Stderr, bytes);
}

/// Where bytes go, and whether there is room for some.
trait Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn has_room(&self, within: Duration) -> bool;
}

struct Stderr;

impl Sink for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write(bytes)
    }

    fn has_room(&self, within: Duration) -> bool {
        let stderr = io::stderr();
        let mut asked = [PollFd::new(&stderr, PollFlags::OUT)];
        let within = Timespec::try_from(within).ok();
        // A stream that cannot be asked is written to: the write says what is wrong. So does one
        // whose reader is gone.
        poll(&mut asked, within.as_ref()).map_or(true, |ready| ready > 0)
    }
}

struct Stream {
    /// The last message found no room: the next one does not wait.
    is_stuck: bool,
    /// Messages that were dropped since.
    lost: u64,
}

impl Stream {
    fn put(&mut self, sink: &mut impl Sink, message: &[u8]) {
        let patience = if self.is_stuck { Duration::ZERO } else { PATIENCE };
        if !sink.has_room(patience) {
            self.is_stuck = true;
            self.lost += 1;
            return;
        }
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            let notice = format!("({lost} messages were lost here: standard error was not read)\n");
            let _ = write_pieces(sink, notice.as_bytes(), Duration::ZERO);
        }
        self.is_stuck = !write_pieces(sink, message, PATIENCE);
        self.lost += u64::from(self.is_stuck);
    }
}

/// False when there was no room in time. An error of the stream is no matter of its writers.
fn write_pieces(sink: &mut impl Sink, bytes: &[u8], patience: Duration) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        if !sink.has_room(patience) {
            return false;
        }
        match sink.write(&rest[..rest.len().min(PIECE)]) {
            Ok(0) => return true,
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process has taken the room; the stream does not block.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_painted_for_a_terminal_that_wants_it() {
        let hostile = "a\u{1b}[2Jb";
        let plain = labelled(Label::Error, hostile, false);
        assert!(plain.starts_with("error: a") && !plain.contains('\u{1b}'), "{plain:?}");
        let painted = labelled(Label::Hint, hostile, true);
        assert!(painted.starts_with("\x1b[32mhint:\x1b[0m a"), "{painted:?}");
        assert_eq!(painted.matches('\u{1b}').count(), 2, "only our own: {painted:?}");

        let wanted = |is_terminal, set: &[(&str, &str)]| {
            are_colours_wanted(is_terminal, |name| {
                let found = set.iter().find(|(one, _)| *one == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(wanted(true, &[("TERM", "xterm")]));
        assert!(!wanted(false, &[("TERM", "xterm")]));
        assert!(!wanted(true, &[("TERM", "xterm"), ("NO_COLOR", "1")]));
        assert!(!wanted(true, &[("TERM", "dumb")]) && !wanted(true, &[]));
        assert!(!wanted(true, &[("TERM", "xterm"), ("CLICOLOR", "0")]));
        assert!(wanted(false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!wanted(false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    }

    /// Room for so many bytes, or an error.
    #[derive(Default)]
    struct Reader {
        room: usize,
        broken: bool,
        got: Vec<u8>,
        waits: std::cell::Cell<usize>,
    }

    impl Sink for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.broken {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.got.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn has_room(&self, within: Duration) -> bool {
            let has_room = self.broken || self.room > 0;
            self.waits.set(self.waits.get() + usize::from(!has_room && !within.is_zero()));
            has_room
        }
    }

    fn stream() -> Stream {
        Stream { is_stuck: false, lost: 0 }
    }

    #[test]
    fn a_reader_that_stops_is_waited_for_once_and_learns_what_it_missed() {
        let mut reader = Reader { room: 6, ..Reader::default() };
        let mut stream = stream();
        for _ in 0..100 {
            stream.put(&mut reader, b"hello\n");
        }
        assert_eq!((reader.got.as_slice(), reader.waits.get()), (&b"hello\n"[..], 1));
        reader.room = 1_000;
        stream.put(&mut reader, b"again\n");
        let text = String::from_utf8(reader.got).unwrap();
        assert!(text.starts_with("hello\n(99 messages were lost"), "{text}");
        assert!(text.ends_with("\nagain\n"), "{text}");
    }

    #[test]
    fn a_stream_that_fails_is_no_matter() {
        let mut reader = Reader { broken: true, ..Reader::default() };
        let mut stream = stream();
        stream.put(&mut reader, &[b'x'; 100_000]);
        assert!(!stream.is_stuck && stream.lost == 0 && reader.waits.get() == 0);
    }

    #[test]
    fn a_large_message_is_written_in_pieces() {
        let mut reader = Reader { room: 1_000_000, ..Reader::default() };
        stream().put(&mut reader, &[b'x'; 100_000]);
        assert_eq!(reader.got.len(), 100_000);
    }
}
