//! Measures peers side by side: the same requests, the same machine, round after round.
//!
//! A [`Peer`] is a way to carry requests and streams of items. A [`Workload`] is what is asked
//! of it. A measurement is one workload on one peer in one round, with clients and servers
//! in processes of their own. The [report] compares peers within each round and quotes
//! the medians, because the machine changes from minute to minute and the ratios do not.
//!
//! The peers built in are Sinew and two muxes that do the least one can do. Others, whose
//! dependencies do not belong into this workspace, implement [`Peer`] in a program of their own
//! and pass themselves to [`run`], which also takes in the peers of other such programs:
//!
//! ```no_run
//! let mut peers = sinew_benches::builtin();
//! // peers.push(Box::new(MyPeer));
//! std::process::exit(sinew_benches::run("cargo run --release --", peers, &[]));
//! ```

mod broker;
mod cell;
mod cli;
mod consumers;
mod contestant;
mod control;
mod elsewhere;
mod engine;
mod gap;
mod machine;
mod measure;
mod message;
mod peer;
mod plot;
mod reply;
pub mod report;
mod results;
mod rounds;
mod service;
mod subprocess;
mod variation;
mod workload;

pub use crate::{
    broker::Broker,
    cli::run,
    contestant::{Contestant, Host},
    control::{Command, Control, PoolCount, Stats},
    measure::{Pace, Sample},
    message::Message,
    peer::{Caller, Peer, Sent, Server, Sink, builtin},
    reply::ReplySink,
    results::Results,
    service::{Ask, Service, ready_items},
    workload::{Lanes, Received, Shape, Workload},
};
