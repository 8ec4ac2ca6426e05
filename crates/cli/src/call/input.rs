//! Where the data of a request comes from.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use sinew_telemetry::console::tell;

use crate::exit::{Exit, Failure};

/// How long a pipe that was not asked for is read in silence: a script may have left one open
/// that never ends.
const SILENCE: Duration = Duration::from_secs(1);

/// Where the request's data comes from; without any of them from a pipe or file on standard
/// input, if there is one.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Input {
    /// Read the data from standard input, also from a terminal.
    #[arg(value_name = "-", value_parser = ["-"])]
    stdin: Option<String>,
    /// The data itself.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    data: Option<String>,
    /// Read the data from a file.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Input {
    /// The data, read to its end first: a request is one message. Reads in a thread, so that a
    /// signal or a deadline does not wait for it.
    pub(crate) async fn read(&self) -> Result<Option<Bytes>, Failure> {
        if let Some(data) = &self.data {
            return Ok(Some(data.clone().into()));
        }
        if let Some(path) = self.file.clone() {
            let name = path.display().to_string();
            return Ok(Some(in_thread(name, move || fs::read(path)).await?));
        }
        if self.stdin.is_some() {
            return Ok(Some(stdin().await?));
        }
        if !has_reader(io::stdin()) {
            return Ok(None);
        }
        let mut reading = std::pin::pin!(stdin());
        let data = tokio::select! {
            biased;
            data = &mut reading => data?,
            () = tokio::time::sleep(SILENCE) => {
                tell(
                    "reading the request from standard input, a pipe that has not ended; give \
                     --data TEXT or </dev/null to read none",
                );
                reading.await?
            }
        };
        // A script's standard input may well be an empty pipe: that is no data, and not empty data.
        Ok(Some(data).filter(|data| !data.is_empty()))
    }
}

async fn stdin() -> Result<Bytes, Failure> {
    let read = || {
        let mut data = Vec::new();
        io::stdin().lock().read_to_end(&mut data).map(|_| data)
    };
    in_thread("standard input".to_owned(), read).await
}

async fn in_thread(
    what: String,
    read: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static,
) -> Result<Bytes, Failure> {
    let unreadable = |error| Failure::new(Exit::Usage, format!("cannot read {what}: {error}"));
    let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other);
    Ok(read.flatten().map_err(unreadable)?.into())
}

/// True for a pipe and for a file, from which a command is given its data.
fn has_reader(input: impl AsFd) -> bool {
    let kind = input.as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    kind.is_ok_and(|kind| kind.file_type().is_fifo() || kind.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_and_files_are_read_and_devices_are_not() {
        let (pipe, _keep) = io::pipe().unwrap();
        assert!(has_reader(pipe));
        assert!(has_reader(tempfile::tempfile().unwrap()));
        assert!(!has_reader(File::open("/dev/null").unwrap()));
    }
}
