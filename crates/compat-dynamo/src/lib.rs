//! Speaks with unmodified NVIDIA Dynamo 1.6 peers, in both directions.
//!
//! Dynamo's exchange is split: a request is acknowledged on one plane, and its response dials back
//! on another. `sinew-split` makes that exchange, and asks a [`DynamoCodec`] about what is different
//! towards Dynamo: [`DynamoScheme`] makes a caller of Dynamo's workers, and a
//! [`SplitServer`](sinew_split::SplitServer) that is given the codec serves Dynamo's callers.
//!
//! What the crate knows is what stands in a payload: [`Annotated`], [`ItemCodec`], how a router of
//! Dynamo takes a [`DynamoError`], and the headers. The bytes around a payload are those of
//! `sinew-dynamo-wire`. It knows no socket, no broker, no discovery and no plane.
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
