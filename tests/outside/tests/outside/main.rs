//! The transport and the discovery at work.

mod conformance;
mod fixture;
mod length;
mod lines;
mod masked;
mod runtime;
