//! A caller of the example `worker`, in a process of its own.
//!
//! ```sh
//! cargo run -p sinew --example caller -- one two three
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sinew::{Endpoint, Runtime};

#[derive(Serialize, Deserialize)]
struct Split {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Word {
    word: String,
    place: usize,
}

const SPLIT: Endpoint<Split, Word> = Endpoint::new("examples/words/split");

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::from_env().await?;
    let router = runtime.router(&SPLIT);
    router.wait_for_instances(Duration::from_secs(5)).await?; // until a worker is up

    let text = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let mut words = router.call(Split { text }).timeout(Duration::from_secs(10)).await?;
    while let Some(word) = words.next().await {
        let Word { word, place } = word?;
        println!("{place}: {word}");
    }
    Ok(())
}
