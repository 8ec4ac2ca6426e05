//! The layer below Sinew's protocols: carriers, listeners, and ports.
//!
//! A [`Carrier`] moves the bytes of one connection: a [`Socket`] over TCP or a Unix domain socket,
//! or another type that implements the trait. A listener [accepts](accept_connections) sockets, an
//! [`Admission`] limits their number, and a [`Port`] detects by the first bytes which [`Protocol`]
//! a peer uses. This crate has no frames, streams or requests.
//!
//! ```
//! use std::sync::Arc;
//! use sinew_net::{Accepted, Detect, Port, Protocol};
//! use sinew_plane::BoxFuture;
//!
//! /// Serves what begins with a question mark.
//! struct Questions;
//!
//! impl Protocol for Questions {
//!     fn detect(&self, first: &[u8]) -> Detect {
//!         if first[0] == b'?' { Detect::Yes } else { Detect::No }
//!     }
//!
//!     fn serve(self: Arc<Self>, connection: Accepted) -> BoxFuture<'static, ()> {
//!         Box::pin(async move {
//!             let (_read, write) = connection.carrier.split();
//!             // A few bytes fit into any socket.
//!             let _ = write.try_write(b"!");
//!         })
//!     }
//! }
//!
//! let port = Port::new(vec![Arc::new(Questions)]);
//! assert_eq!(port.connections(), 0);
//! ```

mod accept;
mod admission;
mod advertised;
mod carrier;
mod config;
mod connector;
mod interface;
mod listen;
mod port;
mod socket;
mod unix;

pub use crate::{
    accept::{Accept, Admit, accept_connections},
    admission::{Admission, Full, Occupant, Peer, Place, connection_limit, descriptors},
    advertised::Advertised,
    carrier::{Carrier, ReadHalf, UNBUFFERED_READ_BYTES, WriteHalf, read_without_buffer, try_read},
    config::{CONNECTION_COST_BYTES, CheckedListenConfig, ListenConfig},
    connector::{Attempt, Connector, SocketConnector},
    interface::ListenHost,
    listen::listen_tcp,
    port::{Accepted, Detect, MAX_FIRST_BYTES, Port, Protocol, UnclassifiedGuard},
    socket::{Socket, TCP, UNIX, keep_alive, silence, tune_listener},
    unix::{SocketFile, check_unix_peer, connect_unix, watch_socket_file},
};
