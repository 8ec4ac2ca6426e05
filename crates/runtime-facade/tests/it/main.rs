//! What a program does with the facade: a worker and a caller of their own, over sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod continuation;
mod handlers;
mod lifecycle;
mod peers;
mod resume;
mod routers;
mod support;
