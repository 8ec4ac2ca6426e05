//! One process serves an endpoint, another calls it.
//!
//! ```sh
//! cargo run -p sinew --example echo -- serve
//! cargo run -p sinew --example echo -- call "hello over there"
//! cargo run -p sinew --example echo            # both in one process
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to people")]

use futures_util::{StreamExt, stream};
use sinew::{EndpointName, Error, PushRouter, RouterMode, Runtime, Served, SingleIn, engine_fn};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let runtime = Runtime::from_env().await?;
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("serve") => {
            let served = serve(&runtime).await?;
            let places: Vec<_> = served.addresses().iter().map(|place| place.as_str()).collect();
            eprintln!("serving {} at {}; Ctrl-C ends it", served.endpoint(), places.join(" and "));
            tokio::signal::ctrl_c().await?;
            served.drain().await;
        }
        Some("call") => call(&runtime, &args.collect::<Vec<_>>().join(" ")).await?,
        _ => {
            let served = serve(&runtime).await?;
            call(&runtime, "hello from next door").await?;
            served.drain().await;
        }
    }
    runtime.shutdown(std::time::Duration::from_secs(5)).await;
    Ok(())
}

fn name() -> Result<EndpointName, sinew::NameError> {
    "examples/echo/words".parse()
}

async fn serve(runtime: &Runtime) -> anyhow::Result<Served> {
    let echo = engine_fn(|request: SingleIn<String>| async move {
        let words: Vec<_> = request.data().split(' ').map(|word| Ok(word.to_owned())).collect();
        Ok::<_, Error>(stream::iter(words))
    });
    Ok(runtime.serve_named(name()?).engine(echo).await?)
}

async fn call(runtime: &Runtime, text: &str) -> anyhow::Result<()> {
    let client = runtime.client(name()?);
    client.wait_for_instances(std::time::Duration::from_secs(2)).await?;
    let router = PushRouter::<String, String>::from_client(client, RouterMode::RoundRobin).await?;
    let mut words = router.generate(text.to_owned()).await?;
    while let Some(word) = words.next().await {
        println!("{}", word?);
    }
    Ok(())
}
