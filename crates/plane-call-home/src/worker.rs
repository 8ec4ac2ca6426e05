//! The worker's side: the addresses that it dials, and how it writes to a caller and reads its
//! control messages.

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
