//! Variables of Dynamo's runtime without an effect in Sinew. A variable without a counterpart in
//! Sinew is checked and ignored; one that asks for something that no build has is an error.

use crate::env::{
    form::{Form, Given, SWITCH, any, number, one_of, port},
    setting::Setting,
};

pub(super) const TLS: &str = "TLS on TCP connections, which is not in this build, and plain text is not sent in its place: \
     unset it, and keep to loopback or to an encrypted network";

const ETCD_TLS: &str = "TLS to etcd, which is not in this build: unset it, and reach etcd at http://HOST:PORT, over \
     loopback or an encrypted network";

const QUIC: &str = "QUIC responses are not spoken";
const EVENTS: &str = "the event plane is not spoken";
const HTTP: &str = "requests do not travel over HTTP";
const STATUS: &str = "there is no status server";
const HEALTH: &str = "there are no health checks by request";
const QUEUE: &str = "no request waits in a queue: beyond SINEW_MAX_IN_FLIGHT it is refused at once";
const THREADS: &str = "a program makes its own threads";
const ETCD_PINGS: &str = "etcd is asked for a sign of life every 10 s, and has 3 s to answer";

const PATH: Form = any("a file");
const SECONDS: Form = number("seconds", 0);

/// A file that TLS on TCP connections would need.
const fn tls_file(name: &'static str) -> Setting {
    Setting::unused(name, PATH, "").asks(Given::at_all, TLS)
}

/// PEM text that TLS to etcd would need. A private key may be in it.
const fn etcd_pem(name: &'static str) -> Setting {
    Setting::unused(name, Form::Secret(|_, _| ()), "").asks(Given::at_all, ETCD_TLS)
}

pub(super) const SETTINGS: &[Setting] = &[
    // TLS
    tls_file("DYN_TCP_TLS_CERT_PATH"),
    tls_file("DYN_TCP_TLS_KEY_PATH"),
    tls_file("DYN_TCP_TLS_CA_CERT_PATH"),
    tls_file("DYN_TCP_TLS_CLIENT_CERT_PATH"),
    tls_file("DYN_TCP_TLS_CLIENT_KEY_PATH"),
    tls_file("DYN_TCP_TLS_CLIENT_CA_CERT_PATH"),
    Setting::unused("DYN_TCP_TLS_INSECURE", SWITCH, "").asks(Given::is_on, TLS),
    Setting::unused("DYN_TCP_TLS_SERVER_NAME", any("a name"), "it asks for no TLS by itself"),
    Setting::unused("DYN_TCP_TLS_HANDSHAKE_TIMEOUT_SECS", SECONDS, "it asks for no TLS by itself"),
    etcd_pem("ETCD_AUTH_CA"),
    etcd_pem("ETCD_AUTH_CLIENT_CERT"),
    etcd_pem("ETCD_AUTH_CLIENT_KEY"),
    Setting::unused("NATS_TLS_INSECURE", SWITCH, "").asks(
        Given::is_on,
        "TLS to NATS without a check of the server, which is not in this build: name the \
         authority with NATS_TLS_CA_CERT_PATH",
    ),
    // Responses
    Setting::unused("DYN_RESPONSE_PLANE", one_of(&["tcp", "quic", "http"]), "tcp is how it is")
        .asks(
            |given| given.text() != "tcp",
            "responses over another plane, which is not in this build: use tcp, or unset it",
        ),
    Setting::unused("DYN_QUIC_RESPONSE_BATCH_INTERVAL_US", number("microseconds", 0), QUIC),
    Setting::unused("DYN_QUIC_RESPONSE_BUFFER_CAPACITY", number("frames", 1), QUIC),
    Setting::unused("DYN_HTTP_RPC_HOST", any("a host"), HTTP),
    Setting::unused("DYN_HTTP_RPC_PORT", port(|_, _| ()), HTTP),
    Setting::unused("DYN_HTTP_RPC_ROOT_PATH", any("a path"), HTTP),
    Setting::unused("DYN_HTTP_REQUEST_TIMEOUT", SECONDS, HTTP),
    Setting::unused("DYN_HTTP_RESPONSE_PORT", port(|_, _| ()), HTTP),
    Setting::unused("DYN_HTTP_RESPONSE_STREAM_FORMAT", one_of(&["sse", "ndjson"]), HTTP),
    // Workers and routers
    Setting::unused(
        "DYN_TCP_SHRINK_MESSAGE_SIZE",
        number("bytes", 0),
        "a buffer that grew is given back with its message",
    ),
    Setting::unused("DYN_TCP_WORKER_POOL_SIZE", number("requests", 1), QUEUE),
    Setting::unused("DYN_TCP_WORK_QUEUE_SIZE", number("requests", 0), QUEUE),
    Setting::unused("DYN_DYNAMO_REQUEST_QUEUE_LIMIT", number("requests", 0), QUEUE),
    Setting::unused(
        "DYN_RUNTIME_INHIBITED_DURATION_SECS",
        SECONDS,
        "a router leaves a worker that failed alone by its own rules",
    ),
    Setting::unused(
        "DYN_ENCODER_CUDA_TO_CPU_RATIO",
        number("requests", 1),
        "a router knows weights and no devices",
    ),
    Setting::unused("DYN_RUNTIME_NUM_WORKER_THREADS", number("threads", 1), THREADS),
    Setting::unused("DYN_RUNTIME_MAX_BLOCKING_THREADS", number("threads", 1), THREADS),
    Setting::unused("ETCD_KEEPALIVE_INTERVAL_SECONDS", SECONDS, ETCD_PINGS),
    Setting::unused("ETCD_KEEPALIVE_TIMEOUT_SECONDS", SECONDS, ETCD_PINGS),
    Setting::unused("DYN_NATS_STREAM_MAX_AGE", SECONDS, "nothing is stored in NATS"),
    Setting::unused(
        "DYN_KUBE_DISCOVERY_MODE",
        one_of(&["pod", "container"]),
        "Kubernetes is not asked",
    ),
    // Events
    Setting::unused("DYN_EVENT_PLANE", one_of(&["zmq", "nats"]), EVENTS),
    Setting::unused("DYN_EVENT_PLANE_CODEC", one_of(&["json", "msgpack"]), EVENTS),
    Setting::unused("DYN_EVENT_PLANE_HOST", any("a host or interface"), EVENTS),
    Setting::unused("DYN_ZMQ_EVENT_SUBSCRIBER_CHANNEL_CAPACITY", number("events", 1), EVENTS),
    Setting::unused("DYN_ZMQ_IO_THREADS", number("threads", 1), EVENTS),
    Setting::unused("DYN_ZMQ_BROKER_URL", any("xsub=URL,xpub=URL"), EVENTS),
    Setting::unused("DYN_ZMQ_BROKER_ENABLED", SWITCH, EVENTS),
    Setting::unused("DYN_ROUTER_ZMQ_ENDPOINTS_PER_SUB", number("endpoints", 1), EVENTS),
    Setting::unused("ZMQ_BROKER_XSUB_BIND", any("an address"), EVENTS),
    Setting::unused("ZMQ_BROKER_XPUB_BIND", any("an address"), EVENTS),
    Setting::unused("ZMQ_BROKER_NAMESPACE", any("a name"), EVENTS),
    // Status, health and traces
    Setting::unused("DYN_SYSTEM_PORT", number("port, or -1 for none", -1), STATUS).asks(
        |given| matches!(given, Given::Number(0..)),
        "the status server, which is not in this build: unset it; sinew serve --metrics has the \
         metrics",
    ),
    Setting::unused("DYN_SYSTEM_ENABLED", SWITCH, "Dynamo reads it no more either"),
    Setting::unused(
        "DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS",
        any("a list"),
        "Dynamo reads it no more either",
    ),
    Setting::unused("DYN_SYSTEM_HOST", any("a host"), STATUS),
    Setting::unused("DYN_SYSTEM_HEALTH_PATH", any("a path"), STATUS),
    Setting::unused("DYN_SYSTEM_LIVE_PATH", any("a path"), STATUS),
    Setting::unused("DYN_SYSTEM_STARTING_HEALTH_STATUS", one_of(&["ready", "notready"]), STATUS),
    Setting::unused("DYN_HEALTH_CHECK_ENABLED", SWITCH, HEALTH)
        .asks(Given::is_on, "health checks by request, which are not in this build: unset it"),
    Setting::unused("DYN_CANARY_WAIT_TIME", SECONDS, HEALTH),
    Setting::unused("DYN_HEALTH_CHECK_REQUEST_TIMEOUT", SECONDS, HEALTH),
    Setting::unused("DYN_ENABLE_POLL_HISTOGRAM", SWITCH, "").asks(
        Given::is_on,
        "a histogram of the runtime's polls, which is not in this build: unset it",
    ),
    Setting::unused("DYN_TCP_LATENCY_TRACE", SWITCH, "").asks(
        Given::is_on,
        "a trace of each request's times, which is not in this build: unset it",
    ),
    Setting::unused("DYN_LIFECYCLE_TRACE_ENABLED", SWITCH, "")
        .asks(Given::is_on, "spans of each request's life, which are not in this build: unset it"),
    Setting::unused(
        "DYN_LIFECYCLE_TRACE_MODE",
        one_of(&["core", "investigation"]),
        "there are no such spans",
    ),
    Setting::unused("OTEL_EXPORT_ENABLED", SWITCH, "")
        .asks(Given::is_on, "an export to OpenTelemetry, which is not in this build: unset it"),
];
