//! What the crate has, at work.

mod conformance;
mod fixture;
mod length;
mod lines;
mod masked;
mod parts;
mod runtime;
