//! The wire format between NVIDIA Dynamo 1.6 and Sinew, around a payload.
//!
//! Dynamo's exchange is split: a request is acknowledged on one connection, and the worker dials
//! the caller back on another with the response. This crate encodes and decodes the messages on
//! both, and maps Dynamo's errors to those of [`sinew_plane`]. It opens no socket, starts no task
//! and reads no clock; its caller passes the bytes in. They may come from a hostile peer, so every
//! length has a limit, and no input makes it panic.
//!
//! | part of the protocol | module or type |
//! |---|---|
//! | control message of a request: id, format, response address | [`RequestControlMessage`] |
//! | headers and path of a request | [`request_headers`], [`InstancePath`] |
//! | acknowledgement of a request | [`acknowledgement`] |
//! | address to dial back, and id of the stream | [`TcpStreamConnectionInfo`], [`Subject`] |
//! | messages on the connection that the worker dials back | [`CallHomeHandshake`], [`Message`] |
//! | limit of heartbeats | [`Heartbeats`] |
//! | errors | [`TypedError`] |
//!
//! `sinew-compat-dynamo` has the wrapping of items, `complete_final` and annotations;
//! [`sinew_codec`] has the frames.
//!
//! ```
//! use sinew_dynamo_wire::{TypedError, acknowledgement};
//! use sinew_plane::{Code, Error, Executed};
//!
//! // A worker refuses a request, and its caller knows that nothing ran.
//! let refusal = acknowledgement::encode(&Err(Error::new(Code::Overloaded, "worker at capacity")));
//! assert_eq!(refusal, "Server overloaded: worker at capacity");
//! let refused = acknowledgement::decode(&refusal).unwrap_err();
//! assert!(refused.is_safe_to_resend());
//!
//! // A text that is no acknowledgement is never a success.
//! let other = acknowledgement::decode(b"Invalid endpoint path").unwrap_err();
//! assert_eq!((other.code(), other.executed()), (Code::Violation, Executed::Maybe));
//!
//! // An error of a handler, in Dynamo's words and, for a caller of Sinew, exactly.
//! let typed = TypedError::from_error(&Error::handler("no such model"));
//! assert_eq!(typed.reason.as_deref(), Some("runtime.unclassified"));
//! assert_eq!(typed.to_error().code(), Code::HandlerFailed);
//! ```

pub mod acknowledgement;
mod connection_info;
mod control_message;
pub mod header_list;
mod heartbeat;
mod instance_path;
mod message;
mod random;
pub mod request_headers;
mod subject;
mod token;
mod typed_error;

pub use crate::{
    connection_info::{
        ConnectionInfo, ConnectionInfoTemplate, MAX_INFO_BYTES, ParsedConnectionInfo, ParsedOffer,
        SinewOffer, StreamType, TCP_SERVER, TcpStreamConnectionInfo, context_id, context_text,
    },
    control_message::{
        CONTROL_MESSAGE_MAX_BYTES, PayloadCodec, RequestControlMessage, RequestType, ResponseType,
        SINEW_CONTROL_VERSION, SinewControl,
    },
    heartbeat::Heartbeats,
    instance_path::{InstancePath, push_instance_path},
    message::{
        CallHomeHandshake, ControlMessage, Failure, MAX_HANDSHAKE_BYTES, MAX_HEADER_BYTES, Message,
        ResponseStreamPrologue, begun_frame, empty_item_frame, facts_frame, head_frame,
        item_prefix, json_frame, read_handshake, sealed_prefix,
    },
    random::random_bytes,
    subject::{SUBJECT_TEXT_BYTES, Subject},
    token::TOKEN_BYTES,
    typed_error::{SinewError, TypedError},
};

/// Runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
