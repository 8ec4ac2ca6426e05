//! Calls and serves unmodified NVIDIA Dynamo 1.6 peers.
//!
//! Dynamo's exchange is split: a request is acknowledged on one plane, and the worker dials the
//! caller back on another with the response. `sinew-split` makes that exchange, and calls a
//! [`DynamoCodec`] for what is different with Dynamo. [`DynamoScheme`] makes a transport to Dynamo
//! workers, and a [`SplitServer`](sinew_split::SplitServer) with the codec serves Dynamo callers.
//!
//! This crate has the content of payloads: [`Annotated`], [`ItemCodec`], the meaning of a
//! [`DynamoError`] for a Dynamo router, and the headers. `sinew-dynamo-wire` has the bytes around a
//! payload. This crate has no socket, no broker, no discovery and no plane.
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
mod codec;
mod error;
mod headers;
mod item;
mod item_sink;
mod scheme;

pub use sinew_dynamo_wire::{PayloadCodec, TypedError as DynamoError};
pub use sinew_split::{Content, Frame};

pub use crate::{
    annotated::Annotated,
    codec::DynamoCodec,
    headers::{ITEMS_ANNOTATED, ITEMS_HEADER},
    item::ItemCodec,
    scheme::DynamoScheme,
};

/// Runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
