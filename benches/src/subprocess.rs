//! This program again in another process: a line there, a line back.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

/// Longest wait for a process to come up, to answer, and to go.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that ends with this value.
pub(crate) struct Subprocess {
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Subprocess {
    /// Starts this program with other arguments; returns what it says first as well.
    pub(crate) async fn start(arguments: &[&str]) -> Result<(Self, String)> {
        let program = std::env::current_exe().context("finding this program")?;
        let part = arguments.first().copied().unwrap_or_default();
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting to {part}"))?;
        let questions = child.stdin.take().context("the process has no input")?;
        let output = child.stdout.take().context("the process has no output")?;
        let mut answers = BufReader::new(output).lines();
        let first = read_line(&mut answers).await.with_context(|| format!("starting to {part}"))?;
        Ok((Self { child, questions, answers }, first))
    }

    pub(crate) async fn ask<A: DeserializeOwned>(
        &mut self,
        question: &impl Serialize,
    ) -> Result<A> {
        let line = serde_json::to_string(question)? + "\n";
        self.questions.write_all(line.as_bytes()).await.context("the process is gone")?;
        Ok(serde_json::from_str(&read_line(&mut self.answers).await?)?)
    }

    /// Ends the process and waits for it.
    pub(crate) async fn end(self) -> Result<()> {
        let Self { mut child, questions, .. } = self;
        // The end of its input is its signal to go.
        drop(questions);
        match tokio::time::timeout(PATIENCE, child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(|status| status.success()) => Ok(()),
            Ok(status) => bail!("a process ended with {}", status?),
            Err(_) => {
                child.kill().await?;
                bail!("a process did not end and was killed")
            }
        }
    }
}

async fn read_line(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    line.context("the process does not answer")??.context("the process ended early")
}

/// The other end: says something first, then answers until its input ends.
#[expect(clippy::print_stdout, reason = "standard output is the way back to the parent")]
pub(crate) async fn answer<Q: DeserializeOwned, A: Serialize>(
    first: &str,
    mut answer: impl AsyncFnMut(Q) -> Result<A>,
) -> Result<()> {
    println!("{first}");
    let mut questions = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = questions.next_line().await? {
        println!("{}", serde_json::to_string(&answer(serde_json::from_str(&line)?).await?)?);
    }
    Ok(())
}
