//! A worker in a process of its own. The example `caller` calls it, from as many processes as there
//! are.
//!
//! ```sh
//! cargo run -p sinew --example worker                  # in one shell
//! cargo run -p sinew --example caller -- one two three # in another
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use sinew::{Endpoint, HandlerResult, Runtime};

// In a real program a crate that both sides use has these types and the endpoint.
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

async fn split(request: Split) -> HandlerResult<impl Stream<Item = HandlerResult<Word>>> {
    let words = request.text.split(' ').enumerate();
    let words: Vec<_> =
        words.map(|(place, word)| Ok(Word { word: word.to_owned(), place })).collect();
    Ok(stream::iter(words))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The processes of a user on one machine find each other. See docs/settings.md for a network.
    let runtime = Runtime::from_env().await?;
    let served = runtime.serve(&SPLIT, split).await?;
    println!("{} is served; Ctrl-C ends it", served.endpoint());
    tokio::signal::ctrl_c().await?;
    served.drain().await; // no further requests; those in flight finish
    Ok(())
}
