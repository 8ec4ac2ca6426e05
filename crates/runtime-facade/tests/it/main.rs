//! What a program does with the facade: a worker and a caller of their own, over sockets.

mod calls;
mod handlers;
mod support;
