//! Routers that follow plane policies, over real sockets in one process.

mod endings;
mod house;
mod rolled_back;
mod thousand;
