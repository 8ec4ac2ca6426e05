//! How a caller says its request, and wants its items: bytes as they are, or texts in a format.

use bytes::Bytes;
use serde_json::Value;
use sinew::{Code, Error, Headers, PayloadFormat};

/// What stands between a caller's payloads and the bytes of a program.
///
/// Sinew callers send bytes and get bytes. A caller that knows only typed payloads, such as a
/// stock Dynamo client, sends a string, which becomes the program's input, and gets each line as
/// a string without its line end; what is not UTF-8 in it is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestFormat {
    Bytes,
    Texts(PayloadFormat),
}

impl RequestFormat {
    /// Payload formats to advertise, best first.
    pub(crate) const CODECS: [&str; 3] = ["raw", "json", "msgpack"];

    /// What the request's `content-type` asks for; without one, bytes.
    pub(crate) fn of(headers: &Headers) -> Self {
        let Some(given) = headers.get("content-type") else { return Self::Bytes };
        match PayloadFormat::from_content_type(Some(given)) {
            Ok(format @ (PayloadFormat::Json | PayloadFormat::Msgpack)) => Self::Texts(format),
            // A program may well be given bytes that have a type of their own.
            _ => Self::Bytes,
        }
    }

    /// The program's input. A value that is not a string is given to it as JSON.
    pub(crate) fn input(self, body: Bytes) -> Result<Bytes, Error> {
        let Self::Texts(format) = self else { return Ok(body) };
        if body.is_empty() {
            return Ok(body);
        }
        let value = format.decode(&body).map_err(|error| {
            Error::new(Code::InvalidPayload, format!("the request cannot be read: {error}"))
        })?;
        Ok(match value {
            Value::Null => Bytes::new(),
            Value::String(text) => text.into(),
            value => value.to_string().into(),
        })
    }

    /// An item out of a line of the program's output.
    pub(crate) fn item(self, line: Bytes) -> Result<Bytes, Error> {
        let Self::Texts(format) = self else { return Ok(line) };
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        format.encode(&String::from_utf8_lossy(text)).map_err(|error| {
            Error::new(Code::InvalidPayload, format!("a line cannot be sent: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(content_type: Option<&str>) -> RequestFormat {
        let mut headers = Headers::new();
        if let Some(content_type) = content_type {
            headers.insert("content-type", content_type).unwrap();
        }
        RequestFormat::of(&headers)
    }

    #[test]
    fn who_speaks_no_format_gets_bytes() {
        for content_type in [None, Some("application/octet-stream"), Some("text/plain")] {
            let format = format(content_type);
            assert_eq!(format.input("a\n".into()).unwrap(), "a\n");
            assert_eq!(format.item("a\n".into()).unwrap(), "a\n");
        }
    }

    #[test]
    fn texts_go_in_and_lines_come_out() {
        let json = format(Some("application/json"));
        assert_eq!(json.input(r#""a\nb""#.into()).unwrap(), "a\nb");
        assert_eq!(json.input("null".into()).unwrap(), "");
        assert_eq!(json.input(r#"{"n": 1}"#.into()).unwrap(), r#"{"n":1}"#);
        assert_eq!(json.item("a \"b\"\r\n".into()).unwrap(), r#""a \"b\"""#);
        let msgpack = format(Some("application/msgpack"));
        assert_eq!(msgpack.input(Bytes::from_static(b"\xa2hi")).unwrap(), "hi");
        assert_eq!(msgpack.item("hi\n".into()).unwrap(), &b"\xa2hi"[..]);
        assert_eq!(json.input("{".into()).unwrap_err().code(), Code::InvalidPayload);
    }
}
