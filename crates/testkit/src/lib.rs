//! The conformance suite of Sinew transports, and the checkers it is built from.
//!
//! A transport passes when [`duplex_suite!`] passes for its [`Harness`]; that is what "implements
//! [`DuplexTransport`](sinew_plane::DuplexTransport)" means beyond the types. The suite knows no
//! concrete transport: it sees the traits of `sinew-plane`, and a harness that starts servers.
//! Every case is an ordinary `async fn` in [`duplex`], so one can also be run by itself.
//!
//! ```no_run
//! // tests/conformance.rs of a transport
//! # struct MyHarness;
//! # impl sinew_testkit::Harness for MyHarness {
//! #     fn serve(&self, _: std::sync::Arc<dyn sinew_plane::RequestHandler>)
//! #         -> sinew_plane::BoxFuture<'_, sinew_testkit::Served> { unimplemented!() }
//! #     fn client(&self) -> std::sync::Arc<dyn sinew_plane::DuplexTransport> { unimplemented!() }
//! #     fn nowhere(&self) -> sinew_plane::Address { unimplemented!() }
//! # }
//! sinew_testkit::duplex_suite!(MyHarness);
//! # fn main() {}
//! ```
//!
//! The checkers serve other tests too, for instance [`check`] on what was seen of one stream:
//!
//! ```
//! use sinew_plane::{Outcome, Terminal};
//! use sinew_testkit::{Observed, Produced, check};
//!
//! let produced = [Produced::Item("a".into()), Produced::Item("b".into())];
//! let observed = [Observed::Item("a".into()), Observed::End(Outcome::Complete { items: 1 })];
//! let violation = check(&produced, &observed).unwrap_err();
//! assert_eq!(violation.invariant(), "I3", "nobody said that the stream was complete");
//! ```

pub mod duplex;
pub mod handlers;
pub mod payload;

mod guard;
mod harness;
mod invariants;
mod proxy;
mod received;
mod report;
mod suite;
mod way;

pub use crate::{
    guard::{PATIENCE, until, within},
    handlers::Call,
    harness::{Harness, Served, request},
    invariants::{Observed, Produced, Record, Violation, check},
    proxy::{CutMade, Cuts, CuttingProxy, Listen, any_seed},
    received::Received,
    report::{Reporter, Reports, reports},
    suite::run,
    way::{Cut, Way},
};
