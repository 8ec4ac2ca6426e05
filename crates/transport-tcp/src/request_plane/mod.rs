//! Dynamo's TCP request plane: a request goes out in one frame, an acknowledgement comes back,
//! and the response dials home elsewhere.
//!
//! On a connection the acknowledgements come in the order of the requests and carry no number.
//! So a client may send many requests without waiting, and must give a connection up when one of
//! them is not acknowledged in time.

mod client;
mod config;
mod connection;
mod host;
mod outbox;
mod payload;
mod serve;

pub(crate) use self::serve::RequestPlane;
pub use self::{
    client::TcpRequestClient,
    config::{CheckedTcpRequestConfig, TcpRequestConfig},
};
