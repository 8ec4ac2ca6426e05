//! One process serves an endpoint, another calls it.
//!
//! ```sh
//! cargo run -p sinew --example echo -- serve
//! cargo run -p sinew --example echo -- call "hello over there"
//! cargo run -p sinew --example echo            # both in one process
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to people")]

use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use sinew::{Endpoint, HandlerResult, Runtime};

const WORDS: Endpoint<String, String> = Endpoint::new("examples/echo/words");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let runtime = Runtime::from_env().await?;
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("serve") => {
            let served = runtime.serve(&WORDS, echo).await?;
            let places: Vec<_> = served.addresses().iter().map(|place| place.as_str()).collect();
            eprintln!("serving {} at {}; Ctrl-C ends it", served.endpoint(), places.join(" and "));
            tokio::signal::ctrl_c().await?;
            served.drain().await;
        }
        Some("call") => call(&runtime, &args.collect::<Vec<_>>().join(" ")).await?,
        _ => {
            let served = runtime.serve(&WORDS, echo).await?;
            call(&runtime, "hello from next door").await?;
            served.drain().await;
        }
    }
    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn echo(text: String) -> HandlerResult<impl Stream<Item = HandlerResult<String>>> {
    let words: Vec<_> = text.split(' ').map(|word| Ok(word.to_owned())).collect();
    Ok(stream::iter(words))
}

async fn call(runtime: &Runtime, text: &str) -> anyhow::Result<()> {
    let router = runtime.router(&WORDS);
    router.wait_for_instances(Duration::from_secs(2)).await?;
    let mut words = router.call(text).await?;
    while let Some(word) = words.next().await {
        println!("{}", word?);
    }
    Ok(())
}
