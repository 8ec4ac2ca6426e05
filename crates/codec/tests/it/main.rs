//! Properties of the codecs for arbitrary input, through the public API.

#[cfg(feature = "tokio")]
mod framed;
mod frames;
#[cfg(all(feature = "json", feature = "msgpack", feature = "bincode"))]
mod payloads;
mod tcp_request;
