//! What a call, an item and a pass may cost, counted instead of timed.
//!
//! A time measured on a busy machine says little; a count says the same on every one: how often
//! the allocator was asked, how often a socket was written, how many packets the kernel sent, how
//! many instructions ran. Server and callers live in one process and on one thread, so that what
//! happens when depends on nothing but the code. The limits stand in [`limits`].

mod callgrind;
mod counts;
mod ends;
mod heap;
pub mod limits;
mod load;
mod packets;
mod typed;
mod verdict;

pub use crate::{
    callgrind::Callgrind,
    counts::count,
    heap::fewest_allocations,
    load::{Load, Running},
    verdict::{HEAD, Measured, Verdict, judge, source},
};
