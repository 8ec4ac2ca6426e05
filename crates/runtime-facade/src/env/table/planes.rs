//! Settings of the planes that requests take, and of their payload format.

use crate::env::{form::Form, setting::Setting};
use sinew_codec::PayloadFormat;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "SINEW_REQUEST_PLANE",
        Form::Choice {
            of: &["auto", "tcp", "nats", "http"],
            set: |draft, text| {
                // Each word but http, which is refused before.
                draft.config.request_plane = text.parse().unwrap_or_default();
            },
        },
        "auto",
        "auto: direct connections, and NATS beside them where servers are named; tcp: direct \
         connections alone; nats: NATS alone, with responses that dial back; http is not in this \
         build. By a name of Dynamo it asks for Dynamo's peers, which need the feature dynamo",
    )
    .alias(&["DYN_REQUEST_PLANE", "DYN_REQUEST_PLANE_MODE"])
    .asks(
        |given| given.text() == "http",
        "requests over HTTP, which is not in this build: use auto, tcp or nats",
    ),
    Setting::new(
        "SINEW_REQUEST_CODEC",
        Form::Choice {
            of: &["msgpack", "json"],
            set: |draft, text| {
                draft.config.codec = match text {
                    "json" => PayloadFormat::Json,
                    _ => PayloadFormat::Msgpack,
                };
            },
        },
        "msgpack",
        "the format that a typed endpoint advertises first",
    )
    .alias(&["DYN_REQUEST_PLANE_CODEC"]),
];
