//! Whoever reads the standard output.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    thread,
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio_util::sync::CancellationToken;

/// The reader of standard output, as far as the system tells of it: of pipes, sockets and
/// terminals it does.
pub(crate) struct Reader {
    gone: CancellationToken,
}

impl Reader {
    /// Looks at standard output from here on, in a thread that ends with its reader or with the
    /// process: the system wakes it for nothing else.
    pub(crate) fn stdout() -> Self {
        Self::of(io::stdout())
    }

    fn of(output: impl AsFd) -> Self {
        let gone = CancellationToken::new();
        let told = gone.clone();
        if let Ok(output) = output.as_fd().try_clone_to_owned() {
            let watch = move || {
                if is_gone(&output) {
                    told.cancel();
                }
            };
            // Without a thread the next write finds out.
            let _ = thread::Builder::new().name("stdout-reader".to_owned()).spawn(watch);
        }
        Self { gone }
    }

    /// Waits until the reader is gone, so that nothing that is written would be read. Cancel-safe.
    pub(crate) async fn gone(&self) {
        self.gone.cancelled().await;
    }
}

/// Waits for the end of the reader; false for what cannot be asked.
fn is_gone(output: &OwnedFd) -> bool {
    loop {
        // No event is asked for: an error and a hang-up are told without.
        let mut asked = [PollFd::new(output, PollFlags::empty())];
        match poll(&mut asked, None) {
            Ok(_) => {
                let told = asked[0].revents();
                return told.intersects(PollFlags::ERR | PollFlags::HUP);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);
    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_end_of_a_reader_is_noticed_and_nothing_else() {
        let (mut pipe, output) = io::pipe().unwrap();
        let reader = Reader::of(&output);
        (&output).write_all(b"x").unwrap();
        pipe.read_exact(&mut [0]).unwrap();
        assert!(timeout(MOMENT, reader.gone()).await.is_err(), "it reads");
        drop(pipe);
        timeout(LIMIT, reader.gone()).await.unwrap();

        let (socket, output) = UnixStream::pair().unwrap();
        let reader = Reader::of(&output);
        assert!(timeout(MOMENT, reader.gone()).await.is_err());
        drop(socket);
        timeout(LIMIT, reader.gone()).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_has_no_reader() {
        let file = tempfile::tempfile().unwrap();
        let reader = Reader::of(&file);
        assert!(timeout(MOMENT, reader.gone()).await.is_err());
    }
}
