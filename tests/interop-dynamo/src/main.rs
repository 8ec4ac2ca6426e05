//! A stock Dynamo worker and client, built from the published `dynamo-runtime` and from nothing of Sinew.
//!
//! Tests run it as a child process and talk to it in JSON lines; README.md lists them. Which planes and which
//! discovery it uses is Dynamo's own business: its `DYN_*` variables decide, as in any deployment.

mod arguments;
mod call;
mod client;
mod duplex;
mod engine;
mod environment;
mod failure;
mod job;
mod line;
mod load;
mod report;
mod worker;

use crate::arguments::{Arguments, Role};

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    environment::complete(&arguments)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match arguments.role {
            Role::Worker => worker::serve(&arguments, worker::Shape::Unary).await,
            Role::BidiWorker => worker::serve(&arguments, worker::Shape::Bidirectional).await,
            Role::Client => client::run(&arguments).await,
        }
    })
}
