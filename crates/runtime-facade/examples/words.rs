//! A worker and a caller of one service, in one process. `docs/beside-tonic.md` has the same service
//! as a user of tonic writes it.
//!
//! ```sh
//! cargo run -p sinew --example words
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use futures_util::{Stream, StreamExt, stream};
use sinew::{DiscoverySource, Endpoint, HandlerResult, Runtime};

const SPLIT: Endpoint<String, String> = Endpoint::new("text/words/split");

async fn split(text: String) -> HandlerResult<impl Stream<Item = HandlerResult<String>>> {
    let words: Vec<_> = text.split(' ').map(|word| Ok(word.to_owned())).collect();
    Ok(stream::iter(words))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One process here. `Runtime::from_env()` joins all processes of the user on this machine.
    let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await?;
    let served = runtime.serve(&SPLIT, split).await?;

    let mut words = runtime.router(&SPLIT).call("one two three").await?;
    while let Some(word) = words.next().await {
        println!("{}", word?); // an Err says: failed, cancelled or truncated, never just short
    }

    served.drain().await;
    Ok(())
}
