//! Both sides of the split exchange over real sockets, with each other and with a peer of another
//! system that is made up here.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bidirectional;
mod conformance;
mod fixture;
mod made_up_peer;
mod peers;
mod refusals;
mod streams;

/// Callers of Sinew alone.
fn server_config() -> sinew_split::SplitServerConfig {
    sinew_split::SplitServerConfig::default()
}
