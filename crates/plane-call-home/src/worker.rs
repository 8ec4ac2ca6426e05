//! The worker's side: which addresses it dials, and how it writes to a caller and hears it.

mod address;
mod client;
mod control_reader;
mod dial;
mod dial_policy;
mod network;
mod own_networks;
mod pending_streams;
mod pool;
mod request_items;
mod response_writer;
mod write_queue;

pub use self::{client::TcpStreamClient, network::Network, pool::PoolStats};
