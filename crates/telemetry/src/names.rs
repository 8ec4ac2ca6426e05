//! Every metric: its name, what it measures, its labels.

/// Requests that the calling side sent or the serving side received, over a transport. Counter;
/// labels [`TRANSPORT`], [`SIDE`].
pub const TRANSPORT_REQUESTS: &str = "transport_requests_total";
/// From sending a request, or admitting it, to its first answer, item or end, in seconds.
/// Histogram; labels [`TRANSPORT`], [`SIDE`].
pub const TRANSPORT_LATENCY: &str = "transport_request_latency_seconds";
/// Requests that failed or were refused on a transport. Counter; labels [`TRANSPORT`], [`SIDE`],
/// [`CATEGORY`].
pub const TRANSPORT_ERRORS: &str = "transport_errors_total";
/// Response streams that are open on a transport. Gauge; labels [`TRANSPORT`], [`SIDE`].
pub const TRANSPORT_STREAMS: &str = "transport_active_streams";
/// Open connections of a transport with sockets, including those that workers dial back. Gauge;
/// labels [`TRANSPORT`], [`SIDE`].
pub const TRANSPORT_CONNECTIONS: &str = "transport_active_connections";
/// Bytes written to the sockets of a transport. Counter; labels [`TRANSPORT`], [`SIDE`].
pub const TRANSPORT_SENT_BYTES: &str = "transport_sent_bytes_total";
/// Bytes read from the sockets of a transport. Counter; labels [`TRANSPORT`], [`SIDE`].
pub const TRANSPORT_RECEIVED_BYTES: &str = "transport_received_bytes_total";

/// Requests that arrived for an endpoint, refused ones included. Counter; label [`ENDPOINT`].
pub const INGRESS_REQUESTS: &str = "ingress_requests_total";
/// Requests that were admitted and have not ended. Gauge; label [`ENDPOINT`].
pub const INGRESS_IN_FLIGHT: &str = "ingress_in_flight_requests";
/// From admission to the end of the response, in seconds. Histogram; label [`ENDPOINT`].
pub const INGRESS_DURATION: &str = "ingress_request_duration_seconds";
/// Payload bytes of admitted requests. Counter; label [`ENDPOINT`].
pub const INGRESS_REQUEST_BYTES: &str = "ingress_request_bytes_total";
/// Payload bytes of response items. Counter; label [`ENDPOINT`]. It grows in steps of up to
/// 64 KiB per request, and is exact once the request has ended.
pub const INGRESS_RESPONSE_BYTES: &str = "ingress_response_bytes_total";
/// Requests that were refused or failed. Counter; labels [`ENDPOINT`], [`CATEGORY`].
pub const INGRESS_ERRORS: &str = "ingress_errors_total";

/// Shared connections that a worker made to callers. Counter.
pub const TCP_POOL_CREATED: &str = "tcp_pool_connections_created_total";
/// Responses that used an existing shared connection. Counter.
pub const TCP_POOL_REUSED: &str = "tcp_pool_connections_reused_total";
/// Shared connections with streams on them. Gauge, up to date within a second.
pub const TCP_POOL_ACTIVE: &str = "tcp_pool_active_connections";
/// Shared connections without streams. Gauge, up to date within a second.
pub const TCP_POOL_IDLE: &str = "tcp_pool_idle_connections";
/// Time from the request for a stream to a caller until it is open, in seconds. Histogram.
pub const TCP_POOL_LATENCY: &str = "tcp_pool_acquisition_latency_seconds";

/// Bytes that the process holds on behalf of its peers. Gauge, up to date within a second; label
/// [`USE`].
pub const BUDGET_BYTES: &str = "budget_bytes";

/// Streams that have lost their connection and wait to be attached to another one. Gauge, up to
/// date within a moment; label [`SIDE`].
pub const STREAMS_DETACHED: &str = "streams_detached";
/// Streams of calls that were attached to another connection. Counter; label [`REASON`].
pub const STREAMS_RESUMED: &str = "streams_resumed_total";
/// Streams of calls that ended as truncated, because their connection was lost and they could not be
/// attached to another one. Counter.
pub const STREAMS_TRUNCATED: &str = "streams_truncated_total";
/// From the loss of a connection until the first frame after the attach, for each stream of a call,
/// in seconds. Histogram.
pub const RESUME_GAP: &str = "resume_gap_seconds";

/// From the arrival of a cancel until the context of its handler has it, in seconds: the worker's
/// part of the way. Histogram.
pub const CANCEL_PROPAGATION: &str = "cancel_propagation_seconds";

/// Requests in flight at the begin of a drain, by what became of them. Counter; label [`OUTCOME`].
pub const HANDOVERS: &str = "handovers_total";

/// Response streams that a router continued at another instance. Counter; label [`WHY`].
pub const STREAMS_CONTINUED: &str = "streams_continued_total";

/// Running streams that a plane policy moved to a transport, back ones included. Counter; labels
/// [`ENDPOINT`], [`TO`].
pub const PLANE_POLICY_MOVES: &str = "plane_policy_moves_total";
/// Plane policies that were rolled back. Counter; labels [`ENDPOINT`], [`REASON`].
pub const PLANE_POLICY_ROLLBACKS: &str = "plane_policy_rollbacks_total";
/// New streams that a plane policy chose, and that went over another transport all the same.
/// Counter; label [`ENDPOINT`].
pub const PLANE_POLICY_NOT_FOLLOWED: &str = "plane_policy_not_followed_total";
/// The share of the running streams that a plane policy is to have moved by now, in percent; 0
/// without one. Gauge; label [`ENDPOINT`].
pub const PLANE_POLICY_SHARE: &str = "plane_policy_share";

/// Label: the name of the transport that a stream was moved to.
pub const TO: &str = "to";
/// Label: why a stream was attached: `lost`, `silence`, `goaway` or `moved`; or why a plane
/// policy was rolled back: `errors`, `gap`, `lost` or
/// `unreachable`.
pub const REASON: &str = "reason";
/// Label: why a stream was continued: `lost`, `handed_over` or `shut_down`.
pub const WHY: &str = "why";
/// Label: what became of a request in a drain: `finished`, `handed_over` or `cut`.
pub const OUTCOME: &str = "outcome";
/// Label: the use of bytes of the budget: `bodies`, `frames`, `kept`, `queued`, ...
pub const USE: &str = "use";
/// Label: the name of a transport, an open set: `tcp`, `unix`, `memory`, ...
pub const TRANSPORT: &str = "transport";
/// Label: `calling` or `serving`, see [`Side`](crate::Side).
pub const SIDE: &str = "side";
/// Label: `namespace/component/endpoint`, or [`UNKNOWN_ENDPOINT`].
pub const ENDPOINT: &str = "endpoint";
/// Label: `transport`, `protocol`, `application` or `resource`.
pub const CATEGORY: &str = "category";

/// The value of the label [`ENDPOINT`] for every name that is not served here, so that a peer
/// cannot add a time series by inventing a name.
pub const UNKNOWN_ENDPOINT: &str = "unknown";

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric, as documentation and [`describe`] show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit; the name has it too unless it is a count.
    pub unit: metrics::Unit,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it measures.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    unit: metrics::Unit,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, labels, help }
}

/// Labels of what each end counts of a transport.
const CARRIED: &[&str] = &[TRANSPORT, SIDE];
/// The same by what was at fault.
const FAILED: &[&str] = &[TRANSPORT, SIDE, CATEGORY];

/// Every metric of this crate.
pub const ALL: &[Metric] = {
    use metrics::Unit::{Bytes, Count, Seconds};

    use Kind::{Counter, Gauge, Histogram};
    &[
        metric(TRANSPORT_REQUESTS, Counter, Count, CARRIED, "Requests sent, or arrived"),
        metric(TRANSPORT_LATENCY, Histogram, Seconds, CARRIED, "From request to first answer"),
        metric(TRANSPORT_ERRORS, Counter, Count, FAILED, "Requests that failed"),
        metric(TRANSPORT_STREAMS, Gauge, Count, CARRIED, "Response streams that are open"),
        metric(TRANSPORT_CONNECTIONS, Gauge, Count, CARRIED, "Connections that are open"),
        metric(TRANSPORT_SENT_BYTES, Counter, Bytes, CARRIED, "Bytes that sockets took"),
        metric(TRANSPORT_RECEIVED_BYTES, Counter, Bytes, CARRIED, "Bytes out of sockets"),
        metric(INGRESS_REQUESTS, Counter, Count, &[ENDPOINT], "Requests that arrived"),
        metric(INGRESS_IN_FLIGHT, Gauge, Count, &[ENDPOINT], "Admitted requests not yet ended"),
        metric(INGRESS_DURATION, Histogram, Seconds, &[ENDPOINT], "From admission to the end"),
        metric(INGRESS_REQUEST_BYTES, Counter, Bytes, &[ENDPOINT], "Payload of admitted requests"),
        metric(INGRESS_RESPONSE_BYTES, Counter, Bytes, &[ENDPOINT], "Payload of response items"),
        metric(INGRESS_ERRORS, Counter, Count, &[ENDPOINT, CATEGORY], "Refused or failed requests"),
        metric(TCP_POOL_CREATED, Counter, Count, &[], "Shared connections made"),
        metric(TCP_POOL_REUSED, Counter, Count, &[], "Uses of a shared connection that was there"),
        metric(TCP_POOL_ACTIVE, Gauge, Count, &[], "Shared connections with streams"),
        metric(TCP_POOL_IDLE, Gauge, Count, &[], "Shared connections without streams"),
        metric(TCP_POOL_LATENCY, Histogram, Seconds, &[], "Until a response has its stream"),
        metric(STREAMS_DETACHED, Gauge, Count, &[SIDE], "Streams without a connection"),
        metric(STREAMS_RESUMED, Counter, Count, &[REASON], "Streams that were attached"),
        metric(STREAMS_TRUNCATED, Counter, Count, &[], "Streams that were not"),
        metric(RESUME_GAP, Histogram, Seconds, &[], "From the loss to the first frame after it"),
        metric(
            CANCEL_PROPAGATION,
            Histogram,
            Seconds,
            &[],
            "From a cancel's arrival to its handler",
        ),
        metric(HANDOVERS, Counter, Count, &[OUTCOME], "What drains did with requests"),
        metric(STREAMS_CONTINUED, Counter, Count, &[WHY], "Streams continued at another instance"),
        metric(
            PLANE_POLICY_MOVES,
            Counter,
            Count,
            &[ENDPOINT, TO],
            "Running streams that a plane policy moved",
        ),
        metric(
            PLANE_POLICY_ROLLBACKS,
            Counter,
            Count,
            &[ENDPOINT, REASON],
            "Plane policies that were rolled back",
        ),
        metric(
            PLANE_POLICY_NOT_FOLLOWED,
            Counter,
            Count,
            &[ENDPOINT],
            "New streams that could not follow a plane policy",
        ),
        metric(
            PLANE_POLICY_SHARE,
            Gauge,
            Count,
            &[ENDPOINT],
            "Percent of the running streams that a plane policy has moved",
        ),
        metric(BUDGET_BYTES, Gauge, Bytes, &[USE], "Held on behalf of peers"),
    ]
};

/// Registers the unit and the meaning of every metric with the installed recorder.
/// `Metrics::install` does this itself.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_their_kind_and_unit_as_prometheus_wants_it() {
        for metric in ALL {
            let counts = metric.name.ends_with("_total");
            assert_eq!(counts, metric.kind == Kind::Counter, "{}", metric.name);
            let seconds = metric.name.ends_with("_seconds");
            assert_eq!(seconds, metric.unit == metrics::Unit::Seconds, "{}", metric.name);
            let bytes = metric.name.contains("_bytes");
            assert_eq!(bytes, metric.unit == metrics::Unit::Bytes, "{}", metric.name);
        }
    }

    #[test]
    fn the_name_for_unknown_endpoints_is_not_an_endpoint() {
        assert!(UNKNOWN_ENDPOINT.parse::<sinew_plane::EndpointName>().is_err());
    }
}
