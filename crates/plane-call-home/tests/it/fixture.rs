//! Waits that name what they wait for.

pub(crate) use sinew_testkit::{until, within as soon};
