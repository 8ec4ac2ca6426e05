//! The wrappings in JSON.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{
    annotation_fields::{AnnotationFields, Failure},
    value_reader::Malformed,
};
use crate::annotated::ERROR_EVENT;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    complete_final: bool,
}

/// The item in a frame that is nothing but the usual wrapping around one value: read in one pass
/// where taking off one wrapping after the other takes two. `None` says nothing about the frame.
pub(super) fn plain<'a>(frame: &'a [u8], before: &[u8], behind: &[u8]) -> Option<&'a [u8]> {
    let item = frame.strip_prefix(before)?.strip_suffix(behind)?;
    let item: &RawValue = serde_json::from_slice(item).ok()?;
    Some(bytes_of(item))
}

/// The item in a frame, and whether it is the last.
pub(super) fn envelope(frame: &Bytes) -> Result<(Option<&[u8]>, bool), Malformed> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(frame).map_err(|_| Malformed("it is not a wrapped item"))?;
    Ok((envelope.data.map(bytes_of), envelope.complete_final))
}

/// A field that is there, also when it is null.
fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "there")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(default)]
    comment: Option<Vec<String>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// An item that carries none of what matters, and nothing that is not ours to know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the names of the fields are what is asked for")]
struct Bare<'a> {
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    comment: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// The annotations of an item; `None` when it is a value of another type.
pub(super) fn annotations(item: &[u8]) -> Option<AnnotationFields<'_>> {
    if item.first() != Some(&b'{') {
        return None;
    }
    let fields: Fields<'_> = serde_json::from_slice(item).ok()?;
    let says_nothing = fields.data.is_none()
        && fields.event.is_none()
        && fields.comment.is_none()
        && fields.error.is_none();
    if says_nothing && !is_type::<Bare<'_>>(item) {
        return None;
    }
    let has_comment = fields.comment.is_some();
    let failure = Failure {
        error: fields.error.map(|error| read(error.get())),
        is_event: fields.event.as_deref() == Some(ERROR_EVENT),
        comment: fields.comment.unwrap_or_default(),
    };
    // An item may well be null; beside annotations it only stands for none.
    let is_annotation = fields.event.is_some() || has_comment;
    let data = fields.data.map(bytes_of).filter(|data| *data != b"null" || !is_annotation);
    Some(AnnotationFields { data, error: failure.into_error() })
}

fn is_type<'a, T: Deserialize<'a>>(item: &'a [u8]) -> bool {
    serde_json::from_slice::<T>(item).is_ok()
}

fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn bytes_of(value: &RawValue) -> &[u8] {
    value.get().as_bytes()
}
