//! The call-home plane: a worker dials its caller back to deliver a response.
//!
//! The caller runs a [`TcpStreamServer`], which expects streams; the worker's
//! [`TcpStreamClient`] dials it. Two forms of the same stream exist. With a plain Dynamo peer
//! each stream has a connection of its own, whose messages are two-part frames: handshake,
//! prologue, items, sentinel; `stop` and `kill` the other way. Between Sinew's own ends the
//! worker keeps a few mux connections to the caller, and the caller opens each stream on one
//! of them. What is said, and how, is in `sinew-dynamo-wire`.
//!
//! | file | what it holds |
//! |---|---|
//! | `server`, `table`, `source`, `limits`, `line`, `end` | the caller: what is expected, and how it is read |
//! | `arrival`, `workers` | who dials in, and for which stream |
//! | `address`, `dial_policy`, `own_networks`, `network` | the worker: which addresses it dials |
//! | `client`, `dial`, `sink`, `queue`, `ear` | the worker: reaching the caller, writing to it, hearing it |
//! | `pool`, `waiting` | the worker's shared connections |
//! | `output`, `input` | the items of a request, at the caller and at the worker |

mod address;
mod arrival;
mod client;
mod config;
mod dial;
mod dial_policy;
mod ear;
mod end;
mod input;
mod limits;
mod line;
mod network;
mod output;
mod own_networks;
mod pool;
mod queue;
mod server;
mod share;
mod sink;
mod source;
mod table;
mod waiting;
mod workers;

pub use self::{
    client::TcpStreamClient,
    config::{
        CheckedTcpStreamClientConfig, CheckedTcpStreamServerConfig, TcpStreamClientConfig,
        TcpStreamServerConfig,
    },
    network::Network,
    pool::PoolUse,
    server::TcpStreamServer,
};
