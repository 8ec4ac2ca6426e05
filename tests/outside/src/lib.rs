//! What a user of Sinew writes in a crate of its own: a [transport](masked), the same as
//! [parts of a runtime](masked_runtime), and a [discovery](lines), each a file of less than 120
//! lines.

pub mod lines;
pub mod masked;
pub mod masked_runtime;
