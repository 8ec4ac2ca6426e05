//! What a user of Sinew writes in a crate of its own: a [transport](masked), the same as
//! [parts of a runtime](masked_runtime), a [discovery](lines), a [strategy](sticky), a
//! [layer](authentication) and an [adapter](limited) for services of `tower`, each a file of less
//! than 120 lines.

pub mod authentication;
pub mod limited;
pub mod lines;
pub mod masked;
pub mod masked_runtime;
pub mod sticky;
