//! `sinew-bench-dynamo`: Dynamo's runtime for `sinew-bench-peers`, which takes its peers in.

mod caller;
mod engine;
mod environment;
mod sinew_caller;
mod text;

use sinew_benches::Contestant;

use crate::{caller::Dynamo, environment::Plane, sinew_caller::SinewToDynamo};

fn main() {
    std::process::exit(match environment::complete() {
        Ok(environment::Complete::Yes) => sinew_benches::run("sinew-bench-dynamo", peers(), &[]),
        Ok(environment::Complete::Ran(status)) => status,
        Err(error) => {
            eprintln!("sinew-bench-dynamo: {error:#}");
            1
        }
    })
}

fn peers() -> Vec<Box<dyn Contestant>> {
    let mut peers: Vec<Box<dyn Contestant>> = Vec::new();
    for plane in Plane::ALL {
        peers.push(Box::new(Dynamo::new(plane)));
    }
    peers.push(Box::new(SinewToDynamo));
    peers
}
