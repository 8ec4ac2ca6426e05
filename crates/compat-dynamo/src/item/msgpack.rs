//! The wrappings in MessagePack.

use bytes::Bytes;
use sinew_codec::PayloadFormat;

use super::{
    reading::{Failure, Notes},
    walker::{Malformed, Walker},
};
use crate::annotated::ERROR_EVENT;

/// The item in a frame, and whether it is the last.
pub(super) fn envelope(frame: &Bytes) -> Result<(Option<&[u8]>, bool), Malformed> {
    let bytes: &[u8] = frame;
    let mut walker = Walker::new(bytes);
    let entries = walker.map()?.ok_or(Malformed("it is not a map"))?;
    let (mut data, mut is_final) = (None, None);
    for _ in 0..entries {
        match walker.text()? {
            Some("data") if data.is_none() => data = Some(&bytes[walker.skip()?]),
            Some("complete_final") if is_final.is_none() => {
                let value =
                    walker.boolean().ok_or(Malformed("complete_final is no truth value"))?;
                is_final = Some(value);
            }
            Some("data" | "complete_final") => return Err(Malformed("a key stands twice")),
            Some(_) => {
                walker.skip()?;
            }
            None => return Err(Malformed("a key is not text")),
        }
    }
    if !walker.is_at_end() {
        return Err(Malformed("something stands behind it"));
    }
    let is_final = is_final.ok_or(Malformed("complete_final is missing"))?;
    Ok((data.and_then(present), is_final))
}

/// The annotations of an item; `None` when it is a value of another type.
pub(super) fn notes(item: &[u8]) -> Option<Notes<'_>> {
    let mut walker = Walker::new(item);
    let entries = walker.map().ok()??;
    let mut data = None;
    let mut failure = Failure::default();
    let (mut is_annotated, mut is_annotation, mut is_foreign) = (false, false, false);
    for _ in 0..entries {
        let key = walker.text().ok()??;
        let value = &item[walker.skip().ok()?];
        if key == "data" {
            data = Some(value);
            is_annotated = true;
            continue;
        }
        let Some(value) = present(value) else { continue };
        match key {
            "event" => failure.is_event = Walker::new(value).text().ok()?? == ERROR_EVENT,
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
    Some(Notes { data, error: failure.into_error() })
}

fn comments(value: &[u8]) -> Option<Vec<String>> {
    let mut walker = Walker::new(value);
    let count = walker.sequence().ok()??;
    // Not reserved from the count: it is only a claim until the texts are there.
    let mut comments = Vec::new();
    for _ in 0..count {
        comments.push(walker.text().ok()??.to_owned());
    }
    Some(comments)
}

/// A field that is nil counts as absent.
fn present(value: &[u8]) -> Option<&[u8]> {
    (value != b"\xc0").then_some(value)
}
