//! The cases that every duplex transport passes, in modules by what they are about.
//!
//! A case panics when the transport fails it, and waits for events only, each wait bounded by
//! [`within`](crate::within). `I1` and so on in messages are the invariants of
//! [`check`](crate::check).

pub mod burst;
pub mod cancel;
pub mod concurrency;
pub mod credit;
pub mod deadline;
pub mod lifecycle;
pub mod limits;
pub mod loss;
pub mod order;
pub mod request;
pub mod sizes;
pub mod terminals;
