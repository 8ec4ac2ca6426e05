//! The end of a connection: its last acknowledgements, and the input that is still arriving.

use std::{io, time::Duration};

use super::{End, Serving};

/// Longest time for the last answers and the end of the connection, and most bytes that are read
/// and dropped in it: closing at once would let the kernel take back answers on their way.
pub(super) const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;

/// A connection that ends has nothing more on its way after so long without a byte: some round
/// trips in a data centre, and too short to be noticed in a shutdown.
const QUIET: Duration = Duration::from_millis(20);

impl Serving<'_> {
    /// Says the last words, and waits for the peer to close.
    pub(super) async fn finish(&mut self, end: End) {
        match end {
            End::Shutdown => self.answer_the_rest().await,
            End::Refused(error) => {
                tracing::debug!(reason = %error.message(), "a connection with requests is refused");
                self.put_answer(&Err(error));
            }
            End::Over | End::Lost(_) => {}
        }
        if self.write_answers().await.is_err() {
            return;
        }
        self.write.shutdown();
        let mut dropped = 0;
        while dropped < LINGER_BYTES {
            self.buffer.clear();
            match self.read().await {
                Ok(0) => return,
                Ok(bytes) => dropped += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Refuses what is on its way, so that its senders know that nothing ran.
    async fn answer_the_rest(&mut self) {
        let mut taken = 0;
        // As much as fills a socket's buffer many times; who still sends then is cut.
        while taken < LINGER_BYTES {
            match tokio::time::timeout(QUIET, self.read()).await {
                Ok(Ok(bytes)) if bytes > 0 => taken += bytes,
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                _ => return,
            }
            if self.answer_all().await.is_err() {
                return;
            }
        }
    }
}
