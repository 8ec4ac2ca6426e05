//! Headers as the JSON object of a request frame.

use bytes::Bytes;
use serde_json::{Map, Value};
use sinew_plane::{Headers, HeadersError};

/// The path of the frame once more, which Dynamo's workers look for here.
const ENDPOINT_PATH: &str = "x-endpoint-path";

/// Writes the headers, and the path among them.
pub(super) fn encode(headers: &Headers, path: &str) -> Bytes {
    let mut object = Map::new();
    for (name, value) in headers.iter() {
        object.insert(name.to_owned(), Value::from(value));
    }
    object.insert(ENDPOINT_PATH.to_owned(), Value::from(path));
    Value::Object(object).to_string().into()
}

/// Reads the headers. Names become lower-case; what no [`Headers`] can hold is left out, and what
/// is no JSON object counts as none, as it does at Dynamo's workers.
pub(super) fn decode(json: &[u8]) -> Headers {
    let mut headers = Headers::new();
    if json.is_empty() {
        return headers;
    }
    let Ok(object) = serde_json::from_slice::<Map<String, Value>>(json) else {
        tracing::debug!("the headers of a request are no JSON object: left out");
        return headers;
    };
    for (mut name, value) in object {
        let Value::String(value) = value else { continue };
        name.make_ascii_lowercase();
        if headers.insert(&name, &value) == Err(HeadersError::TooMany) {
            break;
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(json: &str) -> Vec<(String, String)> {
        let headers = decode(json.as_bytes());
        headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn entry(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn headers_come_back_with_the_path() {
        let mut headers = Headers::new();
        headers.insert("request-id", "a \"quoted\" größe \\").unwrap();
        headers.insert(ENDPOINT_PATH, "what the caller set does not count").unwrap();
        let json = encode(&headers, "1f/a/b/c");
        let back = decode(&json);
        assert_eq!(back.get("request-id"), headers.get("request-id"));
        assert_eq!(back.get(ENDPOINT_PATH), Some("1f/a/b/c"));
        assert_eq!(back.iter().count(), 2);
        let strict: std::collections::HashMap<String, String> =
            serde_json::from_slice(&json).unwrap();
        assert_eq!(strict.len(), 2);
    }

    #[test]
    fn what_no_headers_can_hold_is_left_out() {
        let json = r#"{"OK":"1","Trace-Parent":"2","a b":"3","":"4","n":5,"l":[],"o":{"x":"y"},"crlf":"a\r\nb"}"#;
        assert_eq!(entries(json), [entry("ok", "1"), entry("trace-parent", "2")]);
        assert_eq!(
            entries(r#"{"Request-Id":"upper","request-id":"lower"}"#),
            [entry("request-id", "lower")]
        );
    }

    #[test]
    fn what_is_no_object_counts_as_none() {
        let deep = "[".repeat(60_000);
        for json in ["", "not json", "{", "[]", "\"a\"", "null", "{\"a\":\"1\"} x", &deep] {
            assert!(decode(json.as_bytes()).is_empty(), "{json:.20}");
        }
        assert!(decode(b"{\"a\":\"\xff\"}").is_empty());
    }

    #[test]
    fn thousands_of_names_are_cut_to_what_fits() {
        let names: Vec<_> = (0..5_000).map(|n| format!("\"n{n}\":\"v\"")).collect();
        assert_eq!(decode(format!("{{{}}}", names.join(",")).as_bytes()).iter().count(), 64);
    }
}
