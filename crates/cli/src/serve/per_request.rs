//! One run of the program for each request.

use std::{io, pin::pin, process::ExitStatus, sync::Arc, time::Duration};

use bytes::Bytes;
use sinew::{Code, Error, IncomingOwned, ResponseSink, layers::plane::budget::Account};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    charge::charged,
    output_reader::{Broken, read_output},
    process::{CommandLine, Process, how_it_ended},
    request_format::RequestFormat,
    stderr_tail::StderrTail,
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
    /// For what is made of requests.
    account: Option<Arc<Account>>,
}

impl PerRequest {
    pub(crate) fn new(
        command: CommandLine,
        max: usize,
        kill_grace: Duration,
        cut: CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(max));
        Self { command, places, max, kill_grace, cut, account: None }
    }

    /// Charges what is made of requests to `account`.
    pub(crate) fn charged_to(mut self, account: Arc<Account>) -> Self {
        self.account = Some(account);
        self
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
        let format = RequestFormat::of(request.context.headers());
        let input = match self.input(format, request.body) {
            Ok(input) => input,
            Err(error) => return sink.reject(error),
        };
        let process = match self.command.spawn(!input.is_empty()) {
            Ok(process) => process,
            Err(error) => return sink.reject(self.not_started(error)),
        };
        tracing::debug!(pid = process.child.id(), "started {}", self.command.name());
        sink.accept();
        let tail = StderrTail::default();
        let end = self.run(process, (format, input), &mut sink, &tail).await;
        self.finish(end, &tail, place, sink);
    }

    /// What the program reads. Bytes as they came are charged already.
    fn input(&self, format: RequestFormat, body: Bytes) -> Result<Bytes, Error> {
        let input = format.input(body)?;
        let account = self.account.as_ref().filter(|_| format != RequestFormat::Bytes);
        charged(input, account)
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
        input: (RequestFormat, Bytes),
        sink: &mut ResponseSink,
        tail: &StderrTail,
    ) -> End {
        let (context, group) = (sink.context().clone(), process.group);
        let gone = CancellationToken::new();
        let mut work = pin!(work(process, input, sink, tail, &gone));
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

    fn finish(&self, end: End, tail: &StderrTail, place: OwnedSemaphorePermit, sink: ResponseSink) {
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
    (format, body): (RequestFormat, Bytes),
    sink: &mut ResponseSink,
    tail: &StderrTail,
    gone: &CancellationToken,
) -> End {
    let Process { mut child, stdin, mut stdout, stderr, .. } = process;
    let main = async {
        let sent = read_output(&mut stdout, format, sink).await;
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
        biased;
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

#[cfg(test)]
mod tests {
    use sinew::{CancelReason, Context, Executed, InstanceId, PeerFacts, Terminal, TransportId};

    use super::*;
    use crate::serve::caller::Caller;

    fn program(script: &str, max: usize, kill_grace: Duration) -> Arc<PerRequest> {
        let words = ["sh", "-c", script].map(Into::into).into();
        let command = CommandLine::checked(words).unwrap();
        Arc::new(PerRequest::new(command, max, kill_grace, CancellationToken::new()))
    }

    /// Sends a request; the caller, the request's context, and the task that answers it.
    fn request(
        program: &Arc<PerRequest>,
        caller: Caller,
        body: &'static str,
    ) -> (Arc<Caller>, Context, tokio::task::JoinHandle<()>) {
        let (caller, context) = (Arc::new(caller), Context::new());
        let sink = ResponseSink::new(caller.clone(), context.clone());
        let request = IncomingOwned {
            endpoint: "a/b/c".parse().unwrap(),
            instance: InstanceId(1),
            body: body.into(),
            context: context.clone(),
            transport: TransportId::from_static("test"),
            peer: PeerFacts::UNKNOWN,
            attempt: 0,
        };
        let program = Arc::clone(program);
        let task = tokio::spawn(async move { program.answer(request, sink).await });
        (caller, context, task)
    }

    fn reader() -> Caller {
        Caller { refill: 1, ..Caller::default() }
    }

    async fn has_items(caller: &Caller, count: usize) {
        while caller.items().len() < count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_exit_code_is_the_end() {
        let echo = program("read -r code; echo $code; exit $code", 1, Duration::ZERO);
        let (caller, _, task) = request(&echo, reader(), "0\nnot read to the end");
        task.await.unwrap();
        assert_eq!(caller.items(), ["0\n"]);
        assert!(matches!(caller.terminal(), Terminal::Complete { items: 1 }));

        let (caller, _, task) = request(&echo, reader(), "7\n");
        task.await.unwrap();
        let Terminal::Failed { error } = caller.terminal() else { panic!("not failed") };
        assert_eq!(error.message(), "sh exited with code 7");
        assert_eq!((caller.items().len(), error.executed()), (1, Executed::Yes));
    }

    #[tokio::test]
    async fn a_stop_lets_the_command_say_its_last_words() {
        let script = "trap 'echo last; exit 1' TERM; echo first; while :; do :; done";
        let polite = program(script, 1, Duration::from_secs(20));
        let (caller, context, task) = request(&polite, reader(), "");
        has_items(&caller, 1).await;
        context.stop();
        task.await.unwrap();
        assert_eq!(caller.items(), ["first\n", "last\n"]);
        let terminal = caller.terminal();
        let cancelled = Terminal::Cancelled { reason: CancelReason::Caller };
        assert_eq!(format!("{terminal:?}"), format!("{cancelled:?}"));
    }

    #[tokio::test]
    async fn a_caller_that_is_gone_ends_the_command() {
        let endless = program("exec yes", 1, Duration::from_secs(20));
        let gone = Caller { gone_after: Some(3), ..reader() };
        let (caller, _, task) = request(&endless, gone, "");
        task.await.unwrap();
        assert_eq!(caller.items().len(), 3);
        assert_eq!(endless.places.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_place_is_taken_until_the_command_has_ended() {
        let slow = program("echo a; exec sleep 60", 1, Duration::from_secs(20));
        let (first, context, task) = request(&slow, reader(), "");
        has_items(&first, 1).await;
        let (second, _, refused) = request(&slow, reader(), "");
        refused.await.unwrap();
        let Terminal::Failed { error } = second.terminal() else { panic!("not refused") };
        assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));
        assert!(error.is_safe_to_resend());
        context.kill();
        task.await.unwrap();
        let (third, context, task) = request(&slow, reader(), "");
        has_items(&third, 1).await;
        context.kill();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_program_that_vanished_refuses_its_requests() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::os::unix::fs::symlink("/bin/sh", &path).unwrap();
        let command = CommandLine::checked(vec![path.clone().into()]).unwrap();
        std::fs::remove_file(path).unwrap();
        let cut = CancellationToken::new();
        let gone = Arc::new(PerRequest::new(command, 1, Duration::ZERO, cut));
        let (caller, _, task) = request(&gone, reader(), "");
        task.await.unwrap();
        let Terminal::Failed { error } = caller.terminal() else { panic!("not refused") };
        assert!(error.message().starts_with("cannot start program: "), "{error}");
        assert!(error.is_safe_to_resend());
    }
}
