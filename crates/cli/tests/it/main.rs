//! The command as its users run it: real processes, real signals, a private place each.

mod call;
mod demo;
mod ends;
mod ls;
mod persistent;
mod serve;
mod world;
