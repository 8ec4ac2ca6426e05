//! The two ends of a stream as programs hold them: a state machine, the connection that carries it,
//! and the tasks that wait for it.

mod caller;
mod place;
mod producer;

pub(crate) use self::producer::{Attached, REQUEST_COST_BYTES};
pub use self::{caller::CallerStream, producer::ProducerStream};
