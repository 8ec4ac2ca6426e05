//! The caller's side: what is expected, who dials in, and how it is read.

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
