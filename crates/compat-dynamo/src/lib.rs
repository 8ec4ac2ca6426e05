//! Speaks with unmodified NVIDIA Dynamo 1.6 peers, in both directions.
//!
//! Dynamo's exchange is split: a request is acknowledged on one plane, and its response dials back
//! on another. [`SplitTransport`] makes a [`DuplexTransport`](sinew_plane::DuplexTransport) of the
//! two, for a router; [`SplitServer`] takes requests off the one and answers on the other, for an
//! ingress. Neither the router nor the ingress sees a difference to the mux.
//!
//! The planes come from elsewhere: the crate knows no socket, no broker and no discovery, and
//! chooses no instance. What it knows is what stands in a payload: [`Annotated`], [`ItemCodec`], how
//! a router of Dynamo takes a [`DynamoError`], and the headers. The bytes around a payload are those
//! of `sinew-dynamo-wire`.
//!
//! Between Sinew's own ends the control message has a `sinew` object, and items travel bare.
//!
//! ```
//! use bytes::Bytes;
//! use sinew_compat_dynamo::{Content, ItemCodec, PayloadCodec};
//!
//! let items = ItemCodec::new(PayloadCodec::Json);
//! let frame = items.wrap(b"\"hello\"");
//! assert_eq!(frame, r#"{"data":{"data":"hello"},"complete_final":false}"#);
//!
//! let Content::Item(item) = items.unwrap(&frame)?.content else { panic!("an item") };
//! assert_eq!(item, "\"hello\"");
//! assert!(items.unwrap(&items.end())?.is_final);
//! # Ok::<(), sinew_plane::Error>(())
//! ```

mod annotated;
mod error;
mod headers;
mod item;
mod scheme;

mod split_server;
mod split_transport;

pub use sinew_dynamo_wire::{PayloadCodec, TypedError as DynamoError};

pub use crate::{
    annotated::Annotated,
    headers::{ITEMS_ANNOTATED, ITEMS_HEADER},
    item::{Content, Frame, ItemCodec},
    scheme::SplitScheme,
    split_server::{
        BidirectionalEndpoint, BidirectionalHandler, DIAL_BACK_FAILURES, DeclaredEndpoint,
        EndpointDeclaration, SplitServer, SplitServerConfig,
    },
    split_transport::SplitTransport,
};

/// Runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
