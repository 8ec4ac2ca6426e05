//! A token stream outlives the worker that makes it.
//!
//! An inference worker dies in the middle of an answer. The router gives another worker the tokens
//! that the caller has, as a checkpoint, and that worker goes on behind them. The caller reads one
//! answer; here it also looks where the answer moved.
//!
//! ```sh
//! cargo run -p sinew --example migration
//! ```
//!
//! The example starts itself twice more, as its workers.
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use sinew::{BodyEvent, Context, Continuation, DiscoverySource, Endpoint, HandlerError, Runtime};

const GENERATE: Endpoint<String, String> = Endpoint::new("examples/llm/continue");

/// Set for a worker: the folder of the discovery.
pub const FOLDER: &str = "SINEW_EXAMPLE_FOLDER";

/// What the model says, and after how many tokens the first worker dies.
const ANSWER: &str = "Air scatters blue light more than red light , so the sky is blue .";
const DIES_AFTER: usize = 5;

/// Time that the model takes for a token.
const TOKEN_TIME: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match std::env::var(FOLDER) {
        Ok(folder) => work(&folder).await,
        Err(_) => ask(|| Ok(Command::new(std::env::current_exe()?))).await,
    }
}

/// Asks the workers, which `worker` starts.
pub async fn ask(worker: impl Fn() -> anyhow::Result<Command>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let start = || -> anyhow::Result<Worker> {
        let mut command = worker()?;
        command.env(FOLDER, folder.path()).stdin(Stdio::piped());
        Ok(Worker(command.spawn()?))
    };
    let workers = [start()?, start()?];
    let discovery = DiscoverySource::File(folder.path().to_path_buf());
    let runtime = Runtime::builder().discovery(discovery).build().await?;
    let router = runtime.router(&GENERATE);
    // One is enough to begin: the router waits for another one when it needs it.
    router.wait_for_instances(Duration::from_secs(20)).await?;

    let mut answer = router.call("Why is the sky blue?").await?.events();
    let mut text = Vec::new();
    while let Some(event) = answer.next().await.transpose()? {
        match event {
            BodyEvent::Item(token) => {
                println!("  {token}");
                text.push(token);
            }
            BodyEvent::Migrated(moved) => {
                println!("worker {} is gone, {} goes on", moved.from, moved.to);
            }
            _ => {}
        }
    }
    let moves = answer.body().migrations();
    let (text, tokens) = (text.join(" "), text.len());
    println!("{tokens} tokens, {} move: {text}", moves.len());
    anyhow::ensure!(text == ANSWER && moves.len() == 1, "the answer is whole, and moved once");
    runtime.shutdown(Duration::from_secs(1)).await;
    drop(workers);
    Ok(())
}

/// A worker, until its standard input ends.
pub async fn work(folder: &str) -> anyhow::Result<()> {
    let discovery = DiscoverySource::File(folder.into());
    let runtime = Runtime::builder().discovery(discovery).build().await?;
    let _served = runtime.serve(&GENERATE, generate).continuation(Continuation::Checkpoint).await?;
    let ended = || std::io::Read::read(&mut std::io::stdin(), &mut [0]);
    tokio::task::spawn_blocking(ended).await??;
    Ok(())
}

/// Streams the tokens of an answer. All that the model needs for the next token is the prompt and
/// the tokens so far, so these are the checkpoint.
async fn generate(
    prompt: String,
    context: Context,
) -> Result<impl Stream<Item = Result<String, HandlerError>>, HandlerError> {
    let continued = context.continued().and_then(|continued| continued.checkpoint.clone());
    let is_new = continued.is_none();
    let so_far = match continued {
        Some(tokens) => String::from_utf8(tokens.to_vec())?.split(' ').map(str::to_owned).collect(),
        None => Vec::new(),
    };
    Ok(stream::unfold(so_far, move |mut so_far: Vec<String>| {
        let (prompt, context) = (prompt.clone(), context.clone());
        async move {
            if is_new && so_far.len() == DIES_AFTER {
                std::process::abort(); // no goodbye to anybody
            }
            let token = next_token(&prompt, &so_far).await?;
            so_far.push(token.clone());
            // It belongs to the token that is yielded next.
            let kept = context.checkpoint(so_far.join(" "));
            Some((kept.map(|()| token).map_err(HandlerError::from), so_far))
        }
    }))
}

/// The model.
async fn next_token(_prompt: &str, so_far: &[String]) -> Option<String> {
    tokio::time::sleep(TOKEN_TIME).await; // tidy-allow: sleep, the model computes
    ANSWER.split(' ').nth(so_far.len()).map(str::to_owned)
}

/// A worker process, which ends with this value.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
