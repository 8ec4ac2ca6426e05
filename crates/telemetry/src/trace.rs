//! W3C Trace Context, level 1, and the span of a request.
//!
//! An existing `traceparent` is carried over every hop with a new span id. If there is none, one is
//! made only if a subscriber observes the span.

use std::{fmt, str::FromStr};

use sinew_plane::{EndpointName, Headers, HeadersError, InstanceId, StreamId, header, random};

/// Target of every request span, for filters: `sinew::request=debug`.
pub const TARGET: &str = "sinew::request";

/// Names of the fields of a request span.
pub mod field {
    /// Name of the endpoint.
    pub const ENDPOINT: &str = "endpoint";
    /// The instance that serves, in hexadecimal.
    pub const INSTANCE: &str = "instance";
    /// The header `request-id`, or the id of the stream.
    pub const REQUEST_ID: &str = "request_id";
    /// The trace, 32 hexadecimal digits; empty without one.
    pub const TRACE_ID: &str = "trace_id";
    /// The caller's span, 16 hexadecimal digits; empty without one.
    pub const PARENT_ID: &str = "parent_id";
}

/// Length of a version 00 `traceparent`.
const TEXT_BYTES: usize = 55;

/// The value of a `traceparent` header, version 00:
/// `00-<32 hex trace id>-<16 hex span id>-<2 hex flags>`, lower case, neither id zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent([u8; TEXT_BYTES]);

impl TraceParent {
    /// Begins a trace, with random ids and the flag `sampled`.
    pub fn random() -> Self {
        let text =
            format!("00-{:032x}-{:016x}-01", random::non_zero_u128(), random::non_zero_u64());
        Self::from_ascii(&text)
    }

    /// The same trace with a new random span id.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut child = *self;
        child.0[36..52].copy_from_slice(format!("{:016x}", random::non_zero_u64()).as_bytes());
        child
    }

    /// The value for the next hop: a child of the one in `headers`, or a new trace if they have
    /// none and the span is `observed`, which means that it is enabled.
    pub fn for_hop(headers: &Headers, observed: bool) -> Option<Self> {
        match Self::from_headers(headers) {
            Some(parent) => Some(parent.child()),
            None => observed.then(Self::random),
        }
    }

    /// Reads the header. A malformed one counts as absent, as the standard requires.
    pub fn from_headers(headers: &Headers) -> Option<Self> {
        headers.get(header::TRACEPARENT)?.parse().ok()
    }

    /// Sets the header.
    ///
    /// # Errors
    /// The headers have reached a limit; they are then unchanged.
    pub fn inject(&self, headers: &mut Headers) -> Result<(), HeadersError> {
        headers.insert(header::TRACEPARENT, self.as_str())
    }

    /// The whole value.
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever stored, so the default is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The trace, 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.as_str()[3..35]
    }

    /// The span of the sender, 16 hexadecimal digits.
    pub fn span_id(&self) -> &str {
        &self.as_str()[36..52]
    }

    /// Whether the sender records the trace.
    pub fn is_sampled(&self) -> bool {
        u8::from_str_radix(&self.as_str()[53..], 16).is_ok_and(|flags| flags & 1 == 1)
    }

    fn from_ascii(text: &str) -> Self {
        let mut bytes = [b'0'; TEXT_BYTES];
        bytes.copy_from_slice(text.as_bytes());
        Self(bytes)
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let is_hex =
            |part: &[u8]| part.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
        let bytes = text.as_bytes();
        let dashes = [2, 35, 52].map(|at| bytes.get(at).copied());
        let valid = bytes.len() == TEXT_BYTES
            && bytes.starts_with(b"00")
            && dashes == [Some(b'-'); 3]
            && [3..35, 36..52, 53..55].into_iter().all(|part| is_hex(&bytes[part]))
            && bytes[3..35].iter().any(|b| *b != b'0')
            && bytes[36..52].iter().any(|b| *b != b'0');
        if valid { Ok(Self::from_ascii(text)) } else { Err(TraceParentError) }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceParent({self})")
    }
}

/// The text is not a version 00 `traceparent`. The request continues without a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParentError;

impl fmt::Display for TraceParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a traceparent must be 00-<32 hex>-<16 hex>-<2 hex> in lower case, with ids that are \
             not zero",
        )
    }
}

impl std::error::Error for TraceParentError {}

/// Makes the span of one request, at level debug. It is disabled, and nothing is formatted, unless
/// a subscriber enables it. Attach it where the task is spawned.
pub fn request_span(
    endpoint: &EndpointName,
    instance: InstanceId,
    stream: StreamId,
    headers: &Headers,
) -> tracing::Span {
    if !tracing::enabled!(target: "sinew::request", tracing::Level::DEBUG) {
        return tracing::Span::none();
    }
    let parent = TraceParent::from_headers(headers);
    let span = tracing::debug_span!(
        target: "sinew::request",
        "request",
        endpoint = endpoint.as_str(),
        instance = %instance,
        request_id = tracing::field::Empty,
        trace_id = parent.as_ref().map(TraceParent::trace_id).unwrap_or_default(),
        parent_id = parent.as_ref().map(TraceParent::span_id).unwrap_or_default(),
    );
    match headers.get(header::REQUEST_ID) {
        Some(id) => span.record(field::REQUEST_ID, id),
        None => span.record(field::REQUEST_ID, tracing::field::display(stream)),
    };
    span
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_parts_come_back() {
        let parent: TraceParent = GOOD.parse().unwrap();
        assert_eq!(parent.to_string(), GOOD);
        assert_eq!(parent.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span_id(), "00f067aa0ba902b7");
        assert!(parent.is_sampled());
        assert!(!GOOD.replace("-01", "-02").parse::<TraceParent>().unwrap().is_sampled());
    }

    #[test]
    fn anything_but_version_00_in_lower_case_is_refused() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}0"),
            &format!("{GOOD}-extra"),
            &GOOD.replace("00-4", "01-4"),
            &GOOD.replace("00-4", "ff-4"),
            &GOOD.to_uppercase(),
            &GOOD.replace('-', "_"),
            &GOOD.replace("4bf9", "4bg9"),
            &GOOD.replace("4bf9", "\u{e4}f9"),
            &zero_trace,
            &zero_span,
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(TraceParentError), "{bad}");
        }
    }

    #[test]
    fn a_hop_keeps_the_trace_and_changes_the_span() {
        let parent: TraceParent = GOOD.parse().unwrap();
        let mut headers = Headers::new();
        parent.inject(&mut headers).unwrap();
        let hop = TraceParent::for_hop(&headers, false).unwrap();
        assert_eq!(hop.trace_id(), parent.trace_id());
        assert_ne!(hop.span_id(), parent.span_id());
        assert_eq!(hop.to_string().parse(), Ok(hop));
    }

    #[test]
    fn a_trace_begins_only_when_somebody_looks() {
        let mut headers = Headers::new();
        headers.insert(header::TRACEPARENT, "garbage").unwrap();
        for headers in [Headers::new(), headers] {
            assert_eq!(TraceParent::for_hop(&headers, false), None);
            let begun = TraceParent::for_hop(&headers, true).unwrap();
            assert_eq!(begun.to_string().parse(), Ok(begun));
        }
    }

    #[test]
    fn without_a_subscriber_there_is_no_span() {
        let name = "a/b/c".parse().unwrap();
        let span = request_span(&name, InstanceId(1), StreamId(2), &Headers::new());
        assert!(span.is_disabled());
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails_without_panic(text in "\\PC{0,60}") {
            if let Ok(parent) = text.parse::<TraceParent>() {
                prop_assert_eq!(parent.as_str(), text.as_str());
            }
        }
    }
}
