//! The frames of Dynamo's TCP request plane: requests in one direction, acknowledgements in the
//! other.
//!
//! A request, repeated on one connection; all numbers big-endian:
//!
//! | size | field |
//! |---|---|
//! | 2 | path length, 1 to 1,024 |
//! | n | path: UTF-8 without control characters |
//! | 2 | headers length |
//! | n | headers: one JSON object, not looked at here |
//! | 4 | payload length |
//! | n | payload |
//!
//! An acknowledgement, in the order of the requests: 4 bytes length, then as many bytes. What
//! they mean is not known here.

mod error;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use self::{
    error::TcpRequestError,
    request::{MAX_REQUEST_PATH_BYTES, TcpRequestCodec, TcpRequestMessage},
    response::{TcpResponseCodec, TcpResponseMessage},
};
