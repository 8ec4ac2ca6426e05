//! Headers as the JSON object of a request frame.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::{Map, Value};
use sinew_plane::{Headers, HeadersError};

/// The path of the frame once more, which Dynamo's workers look for here.
const ENDPOINT_PATH: &str = "x-endpoint-path";

/// Encodes the headers together with the path.
pub fn encode(headers: &Headers, path: &str) -> Vec<u8> {
    // For each entry the quotes, colon and comma are about what its lengths are in the block.
    let room = headers.as_block().len() * 5 / 4 + path.len() + ENDPOINT_PATH.len() + 32;
    let mut json = Vec::with_capacity(room);
    // Strings alone, and memory takes all that is written: there is no error.
    let _ = serde_json::to_writer(&mut json, &Object { headers, path });
    json
}

struct Object<'a> {
    headers: &'a Headers,
    path: &'a str,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut object = out.serialize_map(None)?;
        for (name, value) in self.headers.iter().filter(|(name, _)| *name != ENDPOINT_PATH) {
            object.serialize_entry(name, value)?;
        }
        object.serialize_entry(ENDPOINT_PATH, self.path)?;
        object.end()
    }
}

/// Decodes the headers. Names become lower-case. Entries that [`Headers`] cannot hold are left out,
/// and a text that is not a JSON object counts as no headers, as at Dynamo's workers.
pub fn decode(json: &[u8]) -> Headers {
    let mut headers = Headers::new();
    if json.is_empty() {
        return headers;
    }
    if let Ok(Texts(mut entries)) = serde_json::from_slice(json) {
        // Of names that differ in their case the one in lower case counts, wherever it stands.
        entries.sort_by(|(one, _), (other, _)| one.0.cmp(&other.0));
        fill(&mut headers, entries.into_iter().map(|(name, value)| (name.0, value.0)));
    } else if let Ok(object) = serde_json::from_slice::<Map<String, Value>>(json) {
        let texts = object.into_iter().filter_map(|(name, value)| match value {
            Value::String(value) => Some((Cow::Owned(name), Cow::Owned(value))),
            _ => None,
        });
        fill(&mut headers, texts);
    } else {
        tracing::debug!("the headers of a request are no JSON object: left out");
    }
    headers
}

fn fill<'a>(headers: &mut Headers, entries: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>) {
    for (mut name, value) in entries {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            name.to_mut().make_ascii_lowercase();
        }
        if headers.insert(&name, &value) == Err(HeadersError::TooMany) {
            break;
        }
    }
}

/// The entries of an object whose values are texts, as that of every peer is. Slices of the JSON
/// where they stand there as they read.
struct Texts<'a>(Vec<(Text<'a>, Text<'a>)>);

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Texts<'de> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Texts<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = object.next_entry()? {
            entries.push(entry);
        }
        Ok(Texts(entries))
    }
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
        assert_eq!(
            entries(r#"{"request-id":"lower","Request-Id":"upper"}"#),
            [entry("request-id", "lower")]
        );
        let json = "{\"b\":\"1\",\"a\":\"\\u0032\",\"b\":\"3\"}";
        assert_eq!(entries(json), [entry("a", "2"), entry("b", "3")]);
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
