//! The lines that a persistent process reads and writes.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use sinew::{Code, Error, Headers, PayloadFormat};

/// Longest line that a process may write, in bytes, and most that it may be ahead of a caller:
/// one item at most fills what is kept for its request.
pub(crate) const MAX_LINE: usize = 1 << 20;

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    body: Body<'a>,
}

/// What the caller sent: a value, or a text as a string.
#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

/// One line from the process.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer<'a> {
    pub(crate) id: u64,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) item: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) end: bool,
    #[serde(default)]
    pub(crate) error: Option<String>,
}

/// `null` is an item like any other.
fn present<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(reader).map(Some)
}

/// What the caller speaks, and gets its items in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineFormat {
    Json,
    Text,
}

impl LineFormat {
    pub(crate) fn of(headers: &Headers) -> Result<Self, Error> {
        let content_type = headers.get("content-type");
        match PayloadFormat::from_content_type(content_type) {
            Ok(PayloadFormat::Json) => Ok(Self::Json),
            Ok(PayloadFormat::Raw) => Ok(Self::Text),
            _ => Err(invalid("this endpoint reads JSON or text")),
        }
    }

    /// The line of a request.
    pub(crate) fn request(self, id: u64, body: &[u8]) -> Result<Bytes, Error> {
        let text = std::str::from_utf8(body)
            .map_err(|_| invalid("this endpoint reads text, and the body is not UTF-8"))?;
        let on_one_line = match self {
            Self::Json => one_line(text),
            Self::Text => Cow::Borrowed(text),
        };
        let line = match self {
            Self::Json => {
                let body = serde_json::from_str(&on_one_line)
                    .map_err(|error| invalid(&format!("the body is not JSON: {error}")))?;
                serde_json::to_vec(&Request { id, body: Body::Json(body) })
            }
            Self::Text => serde_json::to_vec(&Request { id, body: Body::Text(&on_one_line) }),
        };
        let mut line = line.map_err(|error| invalid(&error.to_string()))?;
        line.push(b'\n');
        Ok(line.into())
    }

    /// The bytes of an item: for JSON the value as it stands, for text a string's own text.
    pub(crate) fn item(self, item: &RawValue) -> Bytes {
        if self == Self::Text
            && let Ok(text) = serde_json::from_str::<String>(item.get())
        {
            return text.into();
        }
        Bytes::copy_from_slice(item.get().as_bytes())
    }
}

/// The line that cancels a request.
pub(crate) fn cancel(id: u64) -> Bytes {
    format!("{{\"id\":{id},\"cancel\":true}}\n").into()
}

/// JSON without line breaks. They stand between tokens only: inside a string JSON has them
/// escaped.
fn one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ").into() } else { json.into() }
}

fn invalid(message: &str) -> Error {
    Error::new(Code::InvalidPayload, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LineFormat, body: &[u8]) -> String {
        String::from_utf8(format.request(7, body).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_request_is_one_line_whatever_its_body() {
        assert_eq!(line(LineFormat::Text, b"a\nb\"c"), "{\"id\":7,\"body\":\"a\\nb\\\"c\"}\n");
        let pretty = b"{\n  \"n\": 12345678901234567890123,\r\n  \"s\": \"a\\nb\"\n}";
        let sent = line(LineFormat::Json, pretty);
        assert_eq!(sent.matches('\n').count(), 1);
        assert!(sent.contains("12345678901234567890123"), "numbers are not rounded: {sent}");
        for (format, body) in
            [(LineFormat::Json, &b"{"[..]), (LineFormat::Json, b""), (LineFormat::Text, b"\xff")]
        {
            let error = format.request(7, body).unwrap_err();
            assert_eq!(error.code(), Code::InvalidPayload);
        }
    }

    #[test]
    fn answers_are_read_and_null_is_an_item() {
        let read = |text| serde_json::from_str::<Answer<'_>>(text).unwrap();
        assert_eq!(read(r#"{"id":1,"item":null}"#).item.unwrap().get(), "null");
        let last = read(r#"{"id":1,"item":[1, 2],"end":true}"#);
        assert_eq!((last.item.unwrap().get(), last.end), ("[1, 2]", true));
        assert_eq!(read(r#"{"id":1,"error":"no"}"#).error.as_deref(), Some("no"));
        for bad in ["", "ready", "{}", r#"{"id":"x"}"#, r#"{"id":1,"item":}"#] {
            assert!(serde_json::from_str::<Answer<'_>>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_caller_gets_what_it_speaks() {
        let item = |text: &str, format: LineFormat| {
            let raw: &RawValue = serde_json::from_str(text).unwrap();
            format.item(raw)
        };
        assert_eq!(item(r#""a\nb""#, LineFormat::Text), "a\nb");
        assert_eq!(item(r#""a\nb""#, LineFormat::Json), r#""a\nb""#);
        assert_eq!(item("[1]", LineFormat::Text), "[1]");
    }
}
