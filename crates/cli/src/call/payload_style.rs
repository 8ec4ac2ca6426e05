//! How data and items are written for the endpoint that is called.

use std::time::Instant;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;
use sinew::{CallLimits, Context, Headers, Instance, PayloadFormat, SingleIn};

use crate::exit::{Exit, Failure};

/// The payload format of an endpoint, and whether the person at this end speaks text or JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayloadStyle {
    format: PayloadFormat,
    json: bool,
}

impl PayloadStyle {
    /// What to speak with an instance.
    pub(crate) fn of(instance: &Instance, json: bool) -> Self {
        let advertised = || {
            let known = |name: &String| PayloadFormat::from_name(name).ok();
            let formats = instance.codecs.iter().filter_map(known);
            let printable = |format: &PayloadFormat| *format != PayloadFormat::Bincode;
            let mut formats: Vec<_> = formats.filter(printable).collect();
            // Bytes where they come first. Of typed formats JSON, which comes back as it is to be
            // printed; the rest in the instance's order.
            if formats.first() != Some(&PayloadFormat::Raw) {
                formats.sort_by_key(|format| *format != PayloadFormat::Json);
            }
            formats.first().copied().unwrap_or(PayloadFormat::Raw)
        };
        let format = match instance.any_id {
            false => advertised(),
            // A bare address says nothing about itself; the person knows.
            true if json => PayloadFormat::Json,
            true => PayloadFormat::Raw,
        };
        Self { format, json }
    }

    /// The request that carries `data`.
    pub(crate) fn request(
        self,
        data: Option<Bytes>,
        deadline: Option<Instant>,
        limits: CallLimits,
        given: &[(String, String)],
    ) -> Result<SingleIn<Bytes>, Failure> {
        let body = self.body(data)?;
        let mut headers = Headers::new();
        let own = ("content-type", self.format.content_type());
        let given = given.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in std::iter::once(own).chain(given) {
            let inserted = headers.insert(name, value);
            inserted.map_err(|error| Failure::caused(Exit::Usage, &error))?;
        }
        let mut context = Context::builder().headers(headers).limits(limits);
        if let Some(deadline) = deadline {
            context = context.deadline(deadline);
        }
        Ok(SingleIn::with_context(body, context.build()))
    }

    fn body(self, data: Option<Bytes>) -> Result<Bytes, Failure> {
        if self.format == PayloadFormat::Raw {
            return Ok(data.unwrap_or_default());
        }
        let usage = |what: &str| Failure::new(Exit::Usage, what.to_owned());
        let value: Value = match data {
            None => Value::Null,
            Some(data) if self.json => {
                let value = serde_json::from_slice(&data);
                let value = value.map_err(|error| usage(&format!("the data is not JSON: {error}")));
                if self.format == PayloadFormat::Json {
                    // As it was written: reading it as a value may round a number.
                    return value.map(|_: Value| data);
                }
                value?
            }
            Some(data) => {
                let text = String::from_utf8(data.into());
                text.map_err(|_| usage("the data is not UTF-8 text"))?.into()
            }
        };
        self.format.encode(&value).map_err(|error| Failure::caused(Exit::Usage, &error))
    }

    /// Appends an item as it is to be printed.
    pub(crate) fn print(self, item: &Bytes, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self.format {
            PayloadFormat::Raw if !self.json => out.extend_from_slice(item),
            PayloadFormat::Raw if is_json(item) => self.print_json(item.trim_ascii_end(), out),
            // Bytes that are no text cannot be said in JSON.
            PayloadFormat::Raw => push_json(&String::from_utf8_lossy(item).into(), out),
            PayloadFormat::Json => self.print_json(item, out),
            format => {
                let value = format.decode(item).map_err(|error| {
                    Failure::new(Exit::Failed, format!("an item cannot be read: {error}"))
                })?;
                self.print_value(&value, out);
            }
        }
        Ok(())
    }

    fn print_json(self, item: &[u8], out: &mut Vec<u8>) {
        if !self.json
            && item.starts_with(b"\"")
            && let Ok(text) = serde_json::from_slice(item)
        {
            return self.print_value(&Value::String(text), out);
        }
        // Line breaks stand between tokens only: inside a string JSON has them escaped.
        out.extend(
            item.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }),
        );
        out.push(b'\n');
    }

    fn print_value(self, value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::String(text) if !self.json => {
                out.extend_from_slice(text.as_bytes());
                out.push(b'\n');
            }
            value => push_json(value, out),
        }
    }
}

/// True for a line of a program that is JSON as it stands.
fn is_json(item: &[u8]) -> bool {
    let text = std::str::from_utf8(item);
    text.is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn push_json(value: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(value.to_string().as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use sinew::InstanceId;

    use super::*;

    fn instance(codecs: &[&str]) -> Instance {
        let mut one = Instance::new("a/b/c".parse().unwrap(), InstanceId(1), Vec::new());
        one.codecs = codecs.iter().map(|name| (*name).to_owned()).collect();
        one
    }

    fn style(codecs: &[&str], json: bool) -> PayloadStyle {
        PayloadStyle::of(&instance(codecs), json)
    }

    fn printed(style: PayloadStyle, item: impl Into<Bytes>) -> String {
        let mut out = Vec::new();
        style.print(&item.into(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_instance_says_what_is_spoken() {
        assert_eq!(style(&["raw"], true).format, PayloadFormat::Raw);
        assert_eq!(style(&["msgpack", "json"], false).format, PayloadFormat::Json);
        assert_eq!(style(&["raw", "json"], false).format, PayloadFormat::Raw);
        assert_eq!(style(&["bincode", "msgpack"], false).format, PayloadFormat::Msgpack);
        let mut seed = instance(&["json"]);
        seed.any_id = true;
        assert_eq!(PayloadStyle::of(&seed, false).format, PayloadFormat::Raw);
        assert_eq!(PayloadStyle::of(&seed, true).format, PayloadFormat::Json);
    }

    #[test]
    fn data_is_text_unless_it_is_said_to_be_json() {
        let body = |codec, json, data: Option<&'static str>| {
            style(&[codec], json).body(data.map(Bytes::from)).map(|body| body.to_vec())
        };
        assert_eq!(body("raw", false, Some("a b")).unwrap(), b"a b");
        assert_eq!(body("raw", true, Some("a b")).unwrap(), b"a b");
        assert_eq!(body("json", false, Some("a \"b\"")).unwrap(), br#""a \"b\"""#);
        let large = r#"{"n": 12345678901234567890123}"#;
        assert_eq!(body("json", true, Some(large)).unwrap(), large.as_bytes());
        assert_eq!(body("msgpack", true, Some("{\"n\":1}")).unwrap(), b"\x81\xa1n\x01");
        assert_eq!(body("json", false, None).unwrap(), b"null");
        assert_eq!(body("json", true, Some("{")).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn items_are_printed_for_who_asked() {
        let raw = printed(style(&["raw"], false), "a\nb");
        assert_eq!(raw, "a\nb", "byte for byte");
        assert_eq!(printed(style(&["raw"], true), "a\nb"), "\"a\\nb\"\n");
        assert_eq!(printed(style(&["raw"], true), "{\"n\": 1.10}\n"), "{\"n\": 1.10}\n");
        assert_eq!(printed(style(&["raw"], true), "{\"n\": 1"), "\"{\\\"n\\\": 1\"\n");
        assert_eq!(printed(style(&["json"], false), r#""a\tb""#), "a\tb\n");
        assert_eq!(printed(style(&["json"], true), r#""a\tb""#), "\"a\\tb\"\n");
        assert_eq!(printed(style(&["json"], false), "{\n\"n\": 1.10}"), "{ \"n\": 1.10}\n");
        assert_eq!(printed(style(&["msgpack"], false), &b"\xa2hi"[..]), "hi\n");
        assert_eq!(printed(style(&["msgpack"], true), &b"\x81\xa1n\x01"[..]), "{\"n\":1}\n");
    }
}
