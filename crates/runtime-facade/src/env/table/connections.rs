//! Settings of the calling side of connections, and of dialling back.

use crate::env::{
    form::{Form, count},
    setting::Setting,
};

/// Converts a number that was parsed and is within its limits.
fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Sets a field for requests in Dynamo's frames, in a build with the feature `dynamo`. In another
/// build, a setting for such requests only is an error.
macro_rules! set_dynamo {
    ($draft:ident.$part:ident.$field:ident = $value:expr) => {{
        #[cfg(feature = "dynamo")]
        {
            $draft.config.$part.$field = $value;
        }
        #[cfg(not(feature = "dynamo"))]
        let _ = (&$draft, $value);
    }};
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "SINEW_CONNECT_TIMEOUT",
        Form::Seconds {
            least: 1,
            most: 3_600,
            set: |draft, time| {
                draft.config.tcp.driver.connect_timeout = time;
                set_dynamo!(draft.frames.connect_timeout = time);
            },
        },
        "5",
        "longest wait for a connection",
    )
    .alias(&["DYN_TCP_CONNECT_TIMEOUT"]),
    Setting::new(
        "SINEW_RESUME_GRACE",
        Form::Seconds {
            least: 0,
            most: 86_400,
            set: |draft, time| {
                let mux = &mut draft.config.tcp.driver.mux;
                mux.resume = !time.is_zero();
                if mux.resume {
                    mux.resume_grace = time;
                }
            },
        },
        "20",
        "how long a stream that has lost its connection waits for another, at both ends; at least \
         the keep-alive timeout, which is 15; 0: it ends with its connection",
    ),
    Setting::new(
        "SINEW_ACK_TIMEOUT",
        Form::Seconds {
            least: 1,
            most: 3_600,
            set: |draft, time| set_dynamo!(draft.frames.request_timeout = time),
        },
        "5",
        "longest wait for the acknowledgement of a request in Dynamo's frames",
    )
    .alias(&["DYN_TCP_REQUEST_TIMEOUT"])
    .needs("dynamo"),
    Setting::new(
        "SINEW_FRAME_CONNECTIONS",
        count("connections", 65_535, |draft, n| set_dynamo!(draft.frames.pool_size = size(n))),
        "100",
        "connections to one worker that speaks Dynamo's frames",
    )
    .alias(&["DYN_TCP_POOL_SIZE"])
    .needs("dynamo"),
    Setting::new(
        "SINEW_FRAME_PIPELINE",
        count("requests", 65_535, |draft, n| set_dynamo!(draft.frames.max_pipelined = size(n))),
        "64",
        "requests on one such connection that are not acknowledged yet",
    )
    .alias(&["DYN_TCP_CHANNEL_BUFFER"])
    .needs("dynamo"),
    Setting::new(
        "SINEW_FRAME_CONNECTS",
        count("connections", 65_535, |draft, n| set_dynamo!(draft.frames.max_connects = size(n))),
        "64",
        "such connections that are made at once, to all workers together",
    )
    .alias(&["DYN_TCP_GLOBAL_CONNECT_LIMIT"])
    .needs("dynamo"),
    Setting::new(
        "SINEW_FRAME_IDLE_TIMEOUT",
        Form::Seconds {
            least: 1,
            most: 86_400,
            set: |draft, time| set_dynamo!(draft.frames.idle_timeout = time),
        },
        "300",
        "such connections to a worker without a request for this long are closed",
    )
    .alias(&["DYN_TCP_HOST_IDLE_TTL_SECS"])
    .needs("dynamo"),
    Setting::new(
        "SINEW_TCP_POOL_ENABLED",
        Form::Switch(|draft, on| {
            let config = &mut draft.config;
            (config.call_home.pool, config.dial_back.pool) = (on, on);
        }),
        "true",
        "responses that dial back share connections, between Sinew's own ends; false: one \
         connection for each stream",
    )
    .alias(&["DYN_TCP_POOL_ENABLED"]),
    Setting::new(
        "SINEW_TCP_POOL_MAX_PER_TARGET",
        count("connections", 65_535, |draft, n| draft.config.dial_back.max_per_target = size(n)),
        "50",
        "shared connections back to one caller",
    )
    .alias(&["DYN_TCP_POOL_MAX_PER_TARGET"]),
    Setting::new(
        "DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS",
        Form::Seconds {
            least: 0,
            most: 86_400,
            set: |draft, time| draft.inactivity = (!time.is_zero()).then_some(time),
        },
        "0",
        "SINEW_FIRST_ITEM_TIMEOUT and SINEW_IDLE_TIMEOUT in one, for each of them that is not set; \
         0 is as long as it takes",
    ),
    Setting::new(
        "SINEW_MAX_MESSAGE_BYTES",
        Form::Bytes {
            // What wraps an item towards Dynamo must fit; a length is 32 bits on the wire.
            least: 16 << 10,
            most: 1 << 30,
            set: |draft, bytes| {
                let config = &mut draft.config;
                config.tcp.driver.mux.max_message_bytes = bytes;
                config.call_home.max_frame_bytes = bytes;
                config.dial_back.max_frame_bytes = bytes;
                set_dynamo!(draft.frames.max_message_bytes = bytes);
                set_dynamo!(draft.frame_server.max_request_bytes = bytes);
            },
        },
        "32MiB",
        "largest request, and largest item",
    )
    .alias(&["DYN_TCP_MAX_MESSAGE_SIZE"]),
];
