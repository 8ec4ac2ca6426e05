//! Converts between Sinew's headers and those of Dynamo's requests.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use bytes::BytesMut;
use sinew_dynamo_wire::{PayloadCodec, context_text, header_list};
use sinew_plane::{Code, Error, Headers, OutgoingRequest, clock, header};

/// A header by which a caller asks for the unchanged items of a Dynamo worker, with the value
/// `annotated`: each is an [`Annotated`](crate::Annotated), also errors and pure annotations.
pub const ITEMS_HEADER: &str = "sinew-items";

/// The value of [`ITEMS_HEADER`] that has an effect.
pub const ITEMS_ANNOTATED: &str = "annotated";

/// An id that somebody before the caller gave the request.
const EXTERNAL_REQUEST_ID: &str = "x-request-id";
/// When the caller sent the request, in nanoseconds since 1970.
const SENT_AT: &str = "x-frontend-send-ts-ns";
/// The frame's path once more.
const ENDPOINT_PATH: &str = "x-endpoint-path";

/// What the frame of a request to a Dynamo worker carries.
pub(crate) fn beside_request(request: &OutgoingRequest) -> Result<Headers, Error> {
    let sent_at = clock::time_of_day().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let id = context_text(request.context.id());
    let sent_at = sent_at.to_string();
    let given = |name| request.headers.get(name);
    let entries = [
        (header::TRACEPARENT, given(header::TRACEPARENT)),
        (header::TRACESTATE, given(header::TRACESTATE)),
        (EXTERNAL_REQUEST_ID, given(header::REQUEST_ID)),
        (header::REQUEST_ID, Some(id.as_str())),
        (SENT_AT, Some(sent_at.as_str())),
    ];
    // Enough for all but a long trace state.
    let mut block = BytesMut::with_capacity(256);
    let mut given = entries.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let put = given.try_for_each(|(name, value)| header_list::put(&mut block, name, value));
    put.and_then(|()| Headers::decode(block.freeze())).map_err(|error| {
        let message = format!("the request's headers: {error}");
        Error::new(Code::TooLarge, message).with_source(error)
    })
}

/// The rest of a request's headers, which travels inside the control message.
pub(crate) fn metadata(headers: &Headers) -> BTreeMap<String, String> {
    let elsewhere = [
        header::CONTENT_TYPE,
        header::TRACEPARENT,
        header::TRACESTATE,
        header::REQUEST_ID,
        ITEMS_HEADER,
    ];
    let rest = headers.iter().filter(|(name, _)| !elsewhere.contains(name));
    rest.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The headers of a request that came from a Dynamo caller: those beside it, its content type, and
/// what of its metadata has the form of a header. What finds no room is left out.
pub(crate) fn of_dynamo(
    beside: &Headers,
    codec: PayloadCodec,
    metadata: &BTreeMap<String, String>,
) -> Headers {
    let mut headers = Headers::new();
    // Two entries cannot be at a limit of the block.
    let _ = headers.insert(header::CONTENT_TYPE, codec.format().content_type());
    let of_plane = beside.iter().filter(|(name, _)| ![ENDPOINT_PATH, SENT_AT].contains(name));
    let of_message = metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in of_plane.chain(of_message) {
        if headers.get(name).is_none() {
            let _ = headers.insert(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use sinew_plane::{Context, InstanceId, StreamId};

    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(entries: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in entries {
            headers.insert(name, value).unwrap();
        }
        headers
    }

    fn given() -> Headers {
        headers(&[
            ("content-type", "application/json"),
            ("traceparent", TRACE),
            ("tracestate", "a=1"),
            ("request-id", "from-outside"),
            ("sinew-items", "annotated"),
            ("tenant", "gr\u{fc}n"),
        ])
    }

    #[test]
    fn the_frame_carries_the_headers_that_dynamo_knows() {
        let context = Context::builder().id(StreamId(0x1f)).build();
        let request = OutgoingRequest::new("a/b/c".parse().unwrap(), InstanceId(1), "".into())
            .with_context(context)
            .with_headers(given());
        let beside = beside_request(&request).unwrap();
        assert_eq!(beside.get("traceparent"), Some(TRACE));
        assert_eq!(beside.get("tracestate"), Some("a=1"));
        assert_eq!(beside.get("request-id"), Some("00000000-0000-0000-0000-00000000001f"));
        assert_eq!(beside.get("x-request-id"), Some("from-outside"));
        let sent_at: u64 = beside.get("x-frontend-send-ts-ns").unwrap().parse().unwrap();
        assert!(sent_at > 1_700_000_000_000_000_000);
        assert_eq!(beside.iter().count(), 5);
    }

    #[test]
    fn the_rest_is_metadata() {
        let metadata = metadata(&given());
        assert_eq!(
            metadata.into_iter().collect::<Vec<_>>(),
            [("tenant".into(), "gr\u{fc}n".into())]
        );
    }

    #[test]
    fn a_dynamo_request_gets_its_content_type_and_its_metadata() {
        let beside = headers(&[
            ("x-endpoint-path", "1/a/b/c"),
            ("x-frontend-send-ts-ns", "5"),
            ("traceparent", TRACE),
            ("request-id", "id"),
            ("content-type", "text/html"),
        ]);
        let metadata = BTreeMap::from(
            [("tenant", "blue"), ("traceparent", "forged"), ("Not-A-Header", "x"), ("nl", "a\nb")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let seen = of_dynamo(&beside, PayloadCodec::Msgpack, &metadata);
        let mut entries: Vec<_> = seen.iter().collect();
        entries.sort_unstable();
        assert_eq!(
            entries,
            [
                ("content-type", "application/msgpack"),
                ("request-id", "id"),
                ("tenant", "blue"),
                ("traceparent", TRACE),
            ]
        );
    }
}
