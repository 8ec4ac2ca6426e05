//! Speaks with unmodified NVIDIA Dynamo 1.6 peers, in both directions.
//!
//! Dynamo's exchange is split: a request is acknowledged on one plane, and its response dials back
//! on another. [`SplitTransport`] makes a [`DuplexTransport`](sinew_plane::DuplexTransport) of the
//! two, for a router; [`SplitServer`] takes requests off the one and answers on the other, for an
//! ingress. Neither the router nor the ingress sees a difference to the mux.
//!
//! The planes come from elsewhere: the crate knows no socket, no broker and no discovery, and
//! chooses no instance. What it knows are the texts: [`RequestControlMessage`], [`Annotated`],
//! [`ItemCodec`], [`DynamoError`] and the headers.
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
mod control;
mod error;
mod header_list;
mod headers;
mod item;
mod scheme;
mod target;

mod split_server;
mod split_transport;

pub use sinew_transport_tcp::TypedError as DynamoError;

pub use crate::{
    annotated::Annotated,
    control::{
        CONTROL_MESSAGE_MAX_BYTES, PayloadCodec, RequestControlMessage, RequestType, ResponseType,
        SINEW_CONTROL_VERSION, SinewControl,
    },
    headers::{ITEMS_ANNOTATED, ITEMS_HEADER},
    item::{Content, Frame, ItemCodec},
    scheme::SplitScheme,
    split_server::{
        BidirectionalEndpoint, BidirectionalHandler, DIAL_BACK_FAILURES, DeclaredEndpoint,
        EndpointDeclaration, SplitServer, SplitServerConfig,
    },
    split_transport::SplitTransport,
    target::instance_path,
};

/// Runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
