//! The wrappings in MessagePack.

use bytes::Bytes;
use sinew_codec::PayloadFormat;

use super::{
    annotation_fields::{AnnotationFields, Failure},
    value_reader::{Malformed, ValueReader},
};
use crate::annotated::ERROR_EVENT;

/// The item in a frame, and whether it is the last.
pub(super) fn envelope(frame: &Bytes) -> Result<(Option<&[u8]>, bool), Malformed> {
    let bytes: &[u8] = frame;
    let mut reader = ValueReader::new(bytes);
    let entries = reader.map()?.ok_or(Malformed("it is not a map"))?;
    let (mut data, mut is_final) = (None, None);
    for _ in 0..entries {
        match reader.text()? {
            Some("data") if data.is_none() => data = Some(&bytes[reader.skip()?]),
            Some("complete_final") if is_final.is_none() => {
                let value =
                    reader.boolean().ok_or(Malformed("complete_final is no truth value"))?;
                is_final = Some(value);
            }
            Some("data" | "complete_final") => return Err(Malformed("a key stands twice")),
            Some(_) => {
                reader.skip()?;
            }
            None => return Err(Malformed("a key is not text")),
        }
    }
    if !reader.is_at_end() {
        return Err(Malformed("something stands behind it"));
    }
    let is_final = is_final.ok_or(Malformed("complete_final is missing"))?;
    Ok((data.and_then(present), is_final))
}

/// The annotations of an item; `None` when it is a value of another type.
pub(super) fn annotations(item: &[u8]) -> Option<AnnotationFields<'_>> {
    let mut reader = ValueReader::new(item);
    let entries = reader.map().ok()??;
    let mut data = None;
    let mut failure = Failure::default();
    let (mut is_annotated, mut is_annotation, mut is_foreign) = (false, false, false);
    for _ in 0..entries {
        let key = reader.text().ok()??;
        let value = &item[reader.skip().ok()?];
        if key == "data" {
            data = Some(value);
            is_annotated = true;
            continue;
        }
        let Some(value) = present(value) else { continue };
        match key {
            "event" => failure.is_event = ValueReader::new(value).text().ok()?? == ERROR_EVENT,
            "comment" => failure.comment = comments(value)?,
            "error" => failure.error = Some(PayloadFormat::Msgpack.decode(value).ok()),
            "id" => continue,
            _ => {
                is_foreign = true;
                continue;
            }
        }
        (is_annotated, is_annotation) = (true, true);
    }
    if is_foreign && !is_annotated {
        return None;
    }
    // An item may well be nil; beside annotations it only stands for none.
    let data = data.filter(|data| present(data).is_some() || !is_annotation);
    Some(AnnotationFields { data, error: failure.into_error() })
}

fn comments(value: &[u8]) -> Option<Vec<String>> {
    let mut reader = ValueReader::new(value);
    let count = reader.sequence().ok()??;
    // Not reserved from the count: it is only a claim until the texts are there.
    let mut comments = Vec::new();
    for _ in 0..count {
        comments.push(reader.text().ok()??.to_owned());
    }
    Some(comments)
}

/// A field that is nil counts as absent.
fn present(value: &[u8]) -> Option<&[u8]> {
    (value != b"\xc0").then_some(value)
}
