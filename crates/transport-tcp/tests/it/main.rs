//! The transport over real sockets: conformance, and peers that misbehave.

mod conformance;
mod fixture;
mod hostile;
mod recovery;
