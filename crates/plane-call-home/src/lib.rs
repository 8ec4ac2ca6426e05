//! The call-home plane: a worker dials its caller back to deliver a response.
//!
//! The caller runs a [`TcpStreamServer`], which expects streams; the worker's [`TcpStreamClient`]
//! dials it. A stream has one of two forms. With a Dynamo peer each stream has its own connection,
//! whose messages are two-part frames: handshake, prologue, items, sentinel; `stop` and `kill` in
//! the other direction. Between two Sinew processes the worker keeps a few mux connections to the
//! caller, and the caller opens each stream on one of them. `sinew-dynamo-wire` has the format of
//! the messages.
//!
//! ```
//! use sinew_plane::{InstanceId, OutgoingRequest, ResponsePlaneServer};
//! use sinew_plane_call_home::{TcpStreamServer, TcpStreamServerConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let caller = TcpStreamServer::bind(TcpStreamServerConfig::default().checked()?)?;
//! let request = OutgoingRequest::new("a/b/c".parse()?, InstanceId(7), "hi".into());
//! // The connection info goes to the worker with the request; the response comes on the stream.
//! let expected = caller.register(&request)?;
//! assert!(expected.connection_info.contains(&caller.local_address().to_string()));
//! assert_eq!(caller.streams(), 1);
//! # Ok(())
//! # }
//! ```

mod caller;
mod config;
mod share;
mod worker;

pub use crate::{
    caller::TcpStreamServer,
    config::{
        CheckedTcpStreamClientConfig, CheckedTcpStreamServerConfig, TcpStreamClientConfig,
        TcpStreamServerConfig,
    },
    worker::{Network, PoolStats, TcpStreamClient},
};
pub use sinew_mux_driver::DriverConfig;
pub use sinew_net::{ListenConfig, ListenHost};

/// Name under which a stream is opened on a shared connection, before its subject.
const CALL_HOME: &str = "call-home/";
