//! The protocol from outside: only bytes and the public machines.

mod frames;
mod golden;
mod model;
mod outbound;
mod reading;
mod wire;
