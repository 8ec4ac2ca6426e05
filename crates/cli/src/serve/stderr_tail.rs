//! The end of what a program says on standard error.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use sinew_telemetry::console;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is kept, in bytes: what an error message may have.
const MAX_BYTES: usize = 4 * 1024;

/// The last 4 KiB of a program's standard error. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct StderrTail(Arc<Mutex<VecDeque<u8>>>);

impl StderrTail {
    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock();
        let bytes = &bytes[bytes.len().saturating_sub(MAX_BYTES)..];
        let excess = (kept.len() + bytes.len()).saturating_sub(MAX_BYTES);
        kept.drain(..excess);
        kept.extend(bytes);
    }

    /// Reads until the end of `stderr`. With `forward` our own standard error shows it too.
    pub(crate) async fn follow(&self, mut stderr: impl AsyncRead + Unpin, forward: bool) {
        let mut chunk = [0; MAX_BYTES];
        let mut line = Vec::new();
        // An error of the pipe ends it as its end does.
        while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
            self.push(&chunk[..read]);
            if forward {
                forward_lines(&mut line, &chunk[..read]);
            }
        }
        if !line.is_empty() {
            line.push(b'\n');
            console::pass_on(&line);
        }
    }

    /// `what`, and what was said at last. At most 4 KiB, cut at the front of what was said.
    pub(crate) fn behind(&self, what: &str) -> String {
        let bytes: Vec<u8> = self.0.lock().iter().copied().collect();
        let said = String::from_utf8_lossy(&bytes);
        let said = said.trim();
        if said.is_empty() {
            return what.to_owned();
        }
        let room = MAX_BYTES.saturating_sub(what.len() + 2);
        let from = said.len().saturating_sub(room);
        let from = (from..=said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or(0);
        format!("{what}: {}", &said[from..])
    }
}

/// Shows whole lines only, so that those of several programs do not mix and no character is torn.
/// A line that does not end is shown once it is long.
fn forward_lines(line: &mut Vec<u8>, more: &[u8]) {
    line.extend_from_slice(more);
    let ended = line.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')).map(|at| at + 1);
    let end = ended.unwrap_or(if line.len() > MAX_BYTES { line.len() } else { 0 });
    if end > 0 {
        console::pass_on(&line[..end]);
        line.drain(..end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_words_are_kept() {
        let tail = StderrTail::default();
        assert_eq!(tail.behind("it failed"), "it failed");
        tail.follow(&b"warning\nno such file\n"[..], false).await;
        assert_eq!(tail.behind("it failed"), "it failed: warning\nno such file");

        let long = [b"lost ".repeat(3_000), b"kept".to_vec()].concat();
        tail.follow(&long[..], false).await;
        let text = tail.behind("it failed");
        assert!(text.len() <= MAX_BYTES && text.ends_with("lost kept"), "{}", text.len());
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_stay_within_the_limit() {
        let tail = StderrTail::default();
        tail.follow(&[0xff; 10_000][..], false).await;
        assert!(tail.behind("it failed").len() <= MAX_BYTES);
    }
}
