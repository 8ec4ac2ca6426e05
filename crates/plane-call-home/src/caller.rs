//! The caller's side: the expected streams, the workers that dial in, and how their streams are
//! read.

mod accepted;
mod expected;
mod limits;
mod outcome;
mod request_items;
mod response;
mod response_connection;
mod server;
mod worker_connections;

pub use self::server::TcpStreamServer;
