//! One run of a persistent process: from its start to its end.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew::{Error, layers::plane::budget::Account};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter},
    process::ChildStdin,
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    exchange::Exchange,
    output_queue::ProcessOutput,
    wire::{Answer, LineFormat, MAX_LINE},
};
use crate::serve::{
    process::{CommandLine, Group, Process, how_it_ended},
    stderr_tail::StderrTail,
};

/// Lines that wait for the process to read. Enough to write many at once; beyond it requests
/// wait, which shows as latency and costs nothing here.
const LINES_AHEAD: usize = 64;

/// How long pipes may stay open behind the process's end, as when it has left a daemon behind.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How much of a line that breaks the protocol is shown, in characters.
const SHOWN: usize = 200;

/// One line to the process.
pub(crate) enum InputLine {
    Request { line: Bytes, exchange: Arc<Exchange> },
    Cancel(Bytes),
}

/// One run of the process: the requests it is working on, and the way to it.
pub(crate) struct ProcessRun {
    lines: mpsc::Sender<InputLine>,
    /// As many as requests are admitted.
    exchanges: Mutex<Exchanges>,
    next_id: AtomicU64,
    account: Arc<Account>,
}

#[derive(Default)]
struct Exchanges {
    open: HashMap<u64, Arc<Exchange>>,
    /// Why the run is over, once it is.
    over: Option<String>,
}

/// A request's place in a run; dropping it makes the process's further words about it nobody's.
pub(crate) struct Entry {
    pub(crate) run: Arc<ProcessRun>,
    pub(crate) id: u64,
    pub(crate) exchange: Arc<Exchange>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.run.exchanges.lock().open.remove(&self.id);
    }
}

impl ProcessRun {
    pub(crate) fn new(account: Arc<Account>) -> (Self, mpsc::Receiver<InputLine>) {
        let (lines, receiver) = mpsc::channel(LINES_AHEAD);
        let exchanges = Mutex::default();
        (Self { lines, exchanges, next_id: AtomicU64::new(1), account }, receiver)
    }

    /// Opens a request under a number of its own.
    pub(crate) fn open(self: &Arc<Self>, format: LineFormat) -> Entry {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let exchange = Arc::new(Exchange::new(format, Arc::clone(&self.account)));
        let mut exchanges = self.exchanges.lock();
        if let Some(why) = &exchanges.over {
            exchange.fail(why);
        }
        exchanges.open.insert(id, Arc::clone(&exchange));
        drop(exchanges);
        Entry { run: Arc::clone(self), id, exchange }
    }

    /// Gives a line to the process if there is room, and gives it back otherwise.
    pub(crate) fn try_send(&self, line: InputLine) -> Result<(), TrySendError<InputLine>> {
        self.lines.try_send(line)
    }

    /// Gives a line to the process once there is room. False when its run is over.
    pub(crate) async fn send(&self, line: InputLine) -> bool {
        self.lines.send(line).await.is_ok()
    }

    /// Hands one line of the process to the request it is about.
    fn deliver(&self, line: &[u8]) -> Result<(), String> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let answer: Answer<'_> = serde_json::from_slice(line).map_err(|error| {
            // For whoever runs the worker: a caller has no business with it.
            tracing::warn!(
                line = %beginning(line), %error,
                "standard output of a persistent command is for the protocol; anything else \
                 belongs on standard error"
            );
            format!("wrote a line that is not of the protocol: {error}")
        })?;
        let exchange = self.exchanges.lock().open.get(&answer.id).cloned();
        let Some(exchange) = exchange else {
            // Late words about a request that was cancelled.
            tracing::debug!(id = answer.id, "the process wrote about no request of ours");
            return Ok(());
        };
        let item = answer.item.map(|item| ProcessOutput::Item(exchange.format.item(item)));
        if item.is_some_and(|item| !exchange.output.put(item)) {
            let message = format!(
                "the command was more than {MAX_LINE} bytes ahead of its caller, or more than the \
                 memory budget had room for: more than is kept for one request"
            );
            exchange.output.overflow(Error::handler(message));
            return Ok(());
        }
        // What follows an end is ignored, so of two the first counts.
        if let Some(error) = answer.error {
            let _ = exchange.output.put(ProcessOutput::Failed(Error::handler(error)));
        }
        if answer.end {
            let _ = exchange.output.put(ProcessOutput::End);
        }
        Ok(())
    }

    /// Ends every request: those the process was given have failed, the others never ran.
    pub(crate) fn fail_all(&self, why: &str) {
        let mut exchanges = self.exchanges.lock();
        exchanges.over = Some(why.to_owned());
        exchanges.open.values().for_each(|exchange| exchange.fail(why));
    }
}

/// As much of a line as tells which one it is.
fn beginning(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.trim_ascii());
    let shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() { format!("{shown}...") } else { shown }
}

/// What ends a process, and how fast.
#[derive(Clone)]
pub(crate) struct Ending {
    /// No request comes any more: its standard input is closed.
    pub(crate) close: CancellationToken,
    /// Everything is killed.
    pub(crate) cut: CancellationToken,
    pub(crate) kill_grace: Duration,
}

/// Lets a process serve until it ends or is ended. Says why in one sentence.
pub(crate) async fn live(
    run: &Arc<ProcessRun>,
    lines: mpsc::Receiver<InputLine>,
    command: &CommandLine,
    process: Process,
    ending: &Ending,
) -> String {
    let Process { mut child, group, stdin, stdout, stderr, .. } = process;
    let own = Arc::clone(run);
    let reading = async move { read(BufReader::new(stdout), &own).await };
    let mut reader = AbortOnDropHandle::new(tokio::spawn(reading));
    let tail = StderrTail::default();
    let listener = {
        let tail = tail.clone();
        async move { tail.follow(stderr, true).await }
    };
    let mut listener = AbortOnDropHandle::new(tokio::spawn(listener));
    let close = ending.close.clone();
    let writing = async move {
        if let Some(stdin) = stdin {
            write(stdin, lines, &close).await;
        }
    };
    let _writer = AbortOnDropHandle::new(tokio::spawn(writing));

    let mut exit = Box::pin(child.wait());
    let mut violation = None;
    let status = tokio::select! {
        biased;
        status = &mut exit => {
            // Its last answers may still be in the pipe.
            if let Ok(Ok(Err(what))) = timeout(LAST_WORDS, &mut reader).await {
                violation = Some(what);
            }
            status.ok()
        }
        read = &mut reader => match read {
            Ok(Err(what)) => {
                violation = Some(what);
                end(exit.as_mut(), group, ending).await
            }
            // Its output ends a moment before it does.
            _ => match timeout(LAST_WORDS, &mut exit).await {
                Ok(status) => status.ok(),
                Err(_) => {
                    violation = Some("closed its standard output".to_owned());
                    end(exit.as_mut(), group, ending).await
                }
            },
        },
        () = ending.close.cancelled() => {
            match timeout(ending.kill_grace, &mut exit).await {
                Ok(status) => status.ok(),
                Err(_) => end(exit.as_mut(), group, ending).await,
            }
        }
        () = ending.cut.cancelled() => end(exit.as_mut(), group, ending).await,
    };
    let _ = timeout(LAST_WORDS, &mut listener).await;
    let how = violation.or(status.map(how_it_ended)).unwrap_or_else(|| "ended".to_owned());
    tail.behind(&format!("{} {how}", command.name()))
}

/// Ends the process: asks first, and kills it if that does not help.
async fn end(
    mut exit: Pin<&mut impl Future<Output = std::io::Result<std::process::ExitStatus>>>,
    group: Group,
    ending: &Ending,
) -> Option<std::process::ExitStatus> {
    if !ending.cut.is_cancelled() {
        group.terminate();
        tokio::select! {
            biased;
            status = &mut exit => return status.ok(),
            () = tokio::time::sleep(ending.kill_grace) => {}
            () = ending.cut.cancelled() => {}
        }
    }
    group.kill();
    exit.await.ok()
}

/// Reads lines until the end; an error when the process breaks the protocol.
async fn read(mut output: impl AsyncBufRead + Unpin, run: &ProcessRun) -> Result<(), String> {
    let mut line = Vec::new();
    loop {
        // An error of the pipe ends it as its end does.
        let chunk = output.fill_buf().await.unwrap_or_default();
        if chunk.is_empty() {
            return run.deliver(&line);
        }
        let newline = chunk.iter().position(|byte| *byte == b'\n');
        let used = newline.map_or(chunk.len(), |at| at + 1);
        if line.len() + used > MAX_LINE {
            return Err(format!("wrote a line of more than {MAX_LINE} bytes"));
        }
        line.extend_from_slice(&chunk[..used]);
        output.consume(used);
        if newline.is_some() {
            run.deliver(&line)?;
            line.clear();
        }
    }
}

/// Writes lines until `close`, and then what is still there; then the process sees the end of
/// its input.
async fn write(stdin: ChildStdin, mut lines: mpsc::Receiver<InputLine>, close: &CancellationToken) {
    let mut stdin = BufWriter::new(stdin);
    loop {
        let line = tokio::select! {
            biased;
            line = lines.recv() => line,
            () = close.cancelled() => None,
        };
        let bytes = match line {
            None => return,
            Some(InputLine::Cancel(bytes)) => bytes,
            Some(InputLine::Request { line, exchange }) if exchange.begin() => line,
            // Withdrawn while it waited.
            Some(InputLine::Request { .. }) => continue,
        };
        let mut written = stdin.write_all(&bytes).await;
        if lines.is_empty() {
            written = written.and(stdin.flush().await);
        }
        if written.is_err() {
            // It has closed its input; how it ends says the rest.
            lines.close();
            return;
        }
    }
}
