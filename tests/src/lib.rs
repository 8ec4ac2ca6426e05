//! What spans the crates of Sinew.
//!
//! The tests are in `tests/`. Here are the examples of the repository's front page, which run as
//! documentation tests.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct FrontPage;

#[cfg(doctest)]
#[doc = include_str!("../../crates/runtime-facade/README.md")]
struct Facade;

#[cfg(doctest)]
#[doc = include_str!("../../crates/transport-tcp/README.md")]
struct TransportTcp;

#[cfg(doctest)]
#[doc = include_str!("../../crates/plane/README.md")]
struct Plane;

#[cfg(doctest)]
#[doc = include_str!("../../docs/dynamo.md")]
struct AmongDynamoPeers;

#[cfg(doctest)]
#[doc = include_str!("../../crates/mux-driver/README.md")]
struct MuxDriver;

#[cfg(doctest)]
#[doc = include_str!("../../crates/plane-call-home/README.md")]
struct PlaneCallHome;

#[cfg(doctest)]
#[doc = include_str!("../../crates/plane-request-tcp/README.md")]
struct PlaneRequestTcp;
