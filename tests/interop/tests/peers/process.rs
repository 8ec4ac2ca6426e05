//! A child process that speaks in JSON lines.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::timeout,
};

/// Longest time that anything here may take; a guard, not a measure. The stock peer is a debug
/// build and shares two cores with all other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running process. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    /// Those of its log among them, where `DYN_LOG` asks for one. Read all the time, so that no
    /// process waits at a full pipe for a test to look.
    lines: UnboundedReceiver<Value>,
    /// The line with which it said that it is ready.
    pub(crate) ready: Value,
}

impl Process {
    /// Starts a program and waits until it is ready.
    pub(crate) async fn start(
        program: &str,
        arguments: &[&str],
        variables: &[(String, String)],
    ) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).envs(variables.iter().cloned()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let has_log = variables.iter().any(|(name, _)| name == "DYN_LOG");
        if has_log {
            command.stderr(Stdio::piped());
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let stdin = child.stdin.take().unwrap();
        let (told, lines) = mpsc::unbounded_channel();
        if let Some(log) = child.stderr.take() {
            tokio::spawn(read(log, told.clone()));
        }
        tokio::spawn(read(child.stdout.take().unwrap(), told));
        let mut process = Self { child, stdin, lines, ready: Value::Null };
        process.ready = process.line(|line| line["ready"] == true).await;
        process
    }

    /// The next line for which `wanted` holds; others are passed over.
    pub(crate) async fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let line = self.lines.recv().await.expect("the process ended without the line");
                if wanted(&line) {
                    return line;
                }
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no such line in {PATIENCE:?}"))
    }

    /// Writes a line to its standard input.
    pub(crate) async fn tell(&mut self, line: &Value) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) {
        timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
    }
}

/// Passes on the lines that are JSON; others are meant for people.
async fn read(output: impl AsyncRead + Unpin, told: UnboundedSender<Value>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let told = serde_json::from_str(&line).map_or(Ok(()), |line| told.send(line));
        if told.is_err() {
            return;
        }
    }
}

/// Fails the test when `future` takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}
