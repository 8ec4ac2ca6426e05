//! Standard error as a place for messages that cannot fail and cannot stop anyone.
//!
//! A reader of standard error may close its end, fill its disk, or stop reading. None of these
//! may change what a program does: a write that fails is dropped, and one for which there is no
//! room is dropped after a short wait. Whoever reads again learns how much was lost.

use std::{
    io::{self, Write},
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

/// Writes a message of our own to standard error as one line, or as several, of which the further
/// ones are indented. Control and other deceiving characters in it are escaped. Never fails, and
/// blocks for 100 ms at most.
pub fn tell(message: &str) {
    write(format!("{}\n", printable_lines(message)).as_bytes());
}

/// Passes on what another program wrote for standard error. Line ends, tabs and colours stay,
/// other control characters are escaped. Never fails, and blocks for 100 ms at most.
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
