//! One run of the program for each request.

use std::{io, pin::pin, process::ExitStatus, sync::Arc, time::Duration};

use bytes::Bytes;
use sinew::{Code, Error, ResponseSink};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use sinew::IncomingOwned;

use super::{
    process::{CommandLine, Process, how_it_ended},
    pump::{Broken, pump},
    tail::Tail,
};

/// How long standard error may stay open behind the end of the program, as when it has left a
/// daemon behind, before the error is told without waiting for more.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How long a run may take to end once everything in its group was killed. Longer takes only a
/// process that has left the group and keeps the pipe.
const KILLED: Duration = Duration::from_secs(1);

/// When a caller is asked to come back: about as long as a short program runs.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Answers each request with one run of a program: body to its standard input, each line of its
/// standard output an item.
pub(crate) struct PerRequest {
    command: CommandLine,
    /// A place for each run. Kept until the program has ended, which may be after its request.
    places: Arc<Semaphore>,
    max: usize,
    kill_grace: Duration,
    /// Ends all runs at once.
    cut: CancellationToken,
}

impl PerRequest {
    pub(crate) fn new(
        command: CommandLine,
        max: usize,
        kill_grace: Duration,
        cut: CancellationToken,
    ) -> Self {
        Self { command, places: Arc::new(Semaphore::new(max)), max, kill_grace, cut }
    }

    /// Answers one request. Goes on behind a kill, which ends the response at once, until the
    /// program has ended.
    pub(crate) async fn answer(&self, request: IncomingOwned, mut sink: ResponseSink) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return sink.reject(self.full());
        };
        if let Some(reason) = request.context.reason() {
            return sink.cancelled(reason);
        }
        let process = match self.command.spawn(!request.body.is_empty()) {
            Ok(process) => process,
            Err(error) => return sink.reject(self.not_started(error)),
        };
        tracing::debug!(pid = process.child.id(), "started {}", self.command.name());
        sink.accept();
        let tail = Tail::default();
        let end = self.run(process, request.body, &mut sink, &tail).await;
        self.finish(end, &tail, place, sink);
    }

    fn full(&self) -> Error {
        let message = format!("{} runs of {} are under way here", self.max, self.command.name());
        Error::new(Code::Overloaded, message).with_retry_after(RETRY_AFTER)
    }

    fn not_started(&self, error: io::Error) -> Error {
        tracing::warn!(%error, "cannot start {}", self.command.name());
        let message = format!("cannot start {}", self.command.name());
        Error::new(Code::Exhausted, format!("{message}: {error}"))
    }

    /// Runs the program to its end, or ends it when the request is cancelled or its caller gone.
    async fn run(
        &self,
        process: Process,
        body: Bytes,
        sink: &mut ResponseSink,
        tail: &Tail,
    ) -> End {
        let (context, group) = (sink.context().clone(), process.group);
        let gone = CancellationToken::new();
        let mut work = pin!(work(process, body, sink, tail, &gone));
        tokio::select! {
            biased;
            end = &mut work => return end,
            () = context.stopped() => {}
            () = gone.cancelled() => {}
            () = self.cut.cancelled() => {}
        }
        group.terminate();
        tokio::select! {
            biased;
            end = &mut work => return end,
            () = tokio::time::sleep(self.kill_grace) => {}
            () = self.cut.cancelled() => {}
        }
        tracing::debug!("killing {}, which did not end", self.command.name());
        group.kill();
        timeout(KILLED, work).await.unwrap_or(End::Left)
    }

    fn finish(&self, end: End, tail: &Tail, place: OwnedSemaphorePermit, sink: ResponseSink) {
        // Before the caller is told: one that calls again at once must find a place.
        drop(place);
        if let Some(reason) = sink.context().reason() {
            return sink.cancelled(reason);
        }
        let failed = |how: &str| {
            let what = format!("{} {how}", self.command.name());
            Error::handler(tail.behind(&what))
        };
        match end {
            End::Exited(Ok(status)) if status.success() => sink.complete(),
            End::Exited(Ok(status)) => sink.fail(failed(&how_it_ended(status))),
            End::Exited(Err(error)) | End::Output(Broken::Pipe(error)) => {
                sink.fail(failed(&format!("cannot be followed: {error}")))
            }
            End::Output(Broken::Sink(error)) => sink.fail(error),
            End::Left => sink.fail(failed("was killed")),
        }
    }
}

/// How a run ended.
enum End {
    /// By itself, with its output sent.
    Exited(io::Result<ExitStatus>),
    /// Its output could not be sent on.
    Output(Broken),
    /// It was killed, and something that has left its group keeps the pipe.
    Left,
}

/// The four things that happen during a run: input, output, errors, end.
async fn work(
    process: Process,
    body: Bytes,
    sink: &mut ResponseSink,
    tail: &Tail,
    gone: &CancellationToken,
) -> End {
    let Process { mut child, stdin, mut stdout, stderr, .. } = process;
    let main = async {
        let sent = pump(&mut stdout, sink).await;
        if let Err(broken) = sent {
            gone.cancel();
            discard(stdout).await;
            // Waited for as well, so that it does not stay as a zombie.
            let _ = child.wait().await;
            return End::Output(broken);
        }
        // Not before its output has ended: until it is waited for, its group can be signalled.
        End::Exited(child.wait().await)
    };
    let feed = async {
        if let Some(stdin) = stdin {
            feed(stdin, body).await;
        }
    };
    let beside = async { tokio::join!(feed, tail.follow(stderr, false)) };
    let (mut main, mut beside) = (pin!(main), pin!(beside));
    tokio::select! {
        end = &mut main => {
            // What has left a daemon behind keeps standard error open; nothing depends on it.
            let _ = timeout(LAST_WORDS, beside).await;
            end
        }
        _ = &mut beside => main.await,
    }
}

/// Writes the request's body. A program that does not want all of it closes its end, which is
/// its right: `head -1` does.
async fn feed(mut stdin: impl AsyncWrite + Unpin, body: Bytes) {
    if let Err(error) = stdin.write_all(&body).await {
        tracing::debug!(%error, "the program did not read its whole input");
    }
}

/// Reads on so that a program which is asked to end is not stuck at its pipe.
async fn discard(mut output: impl AsyncRead + Unpin) {
    let mut chunk = [0; 4096];
    while let Ok(1..) = output.read(&mut chunk).await {}
}
