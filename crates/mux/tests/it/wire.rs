//! Bytes from a peer.
