//! A child process that speaks in JSON lines.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc::{self, UnboundedReceiver},
    time::timeout,
};

/// Longest time that anything here may take; a guard, not a measure. The stock peer is a debug
/// build and shares two cores with all other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running process. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    /// Read all the time, so that no process waits at a full pipe for a test to look.
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
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let (told, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stdout.next_line().await {
                // What is not JSON is a log line.
                let told = serde_json::from_str(&line).map_or(Ok(()), |line| told.send(line));
                if told.is_err() {
                    return;
                }
            }
        });
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

/// Fails the test when `future` takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}
