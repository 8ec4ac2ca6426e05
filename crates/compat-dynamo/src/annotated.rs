//! The item type of most Dynamo streams: data, an event, or an error.

use serde::{Deserialize, Serialize};

use crate::DynamoError;

/// The event that tells of a failure.
pub(crate) const ERROR_EVENT: &str = "error";

/// An item with annotations. An absent field is left out of what is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotated<T> {
    /// The payload.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub data: Option<T>,
    /// A name for the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What kind of annotation this is; `error` for a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The content of an annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Vec<String>>,
    /// The failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DynamoError>,
}

// `#[serde(default)]` alone would ask T for a default that it need not have.
fn none<T>() -> Option<T> {
    None
}

impl<T> Annotated<T> {
    /// Makes an item with only a payload.
    pub const fn from_data(data: T) -> Self {
        Self { data: Some(data), id: None, event: None, comment: None, error: None }
    }

    /// Makes an item that reports a failure.
    pub fn from_error(error: DynamoError) -> Self {
        let event = Some(ERROR_EVENT.to_owned());
        Self { data: None, id: None, event, comment: None, error: Some(error) }
    }

    /// Makes an annotation: an event with its content, without a payload.
    pub fn from_annotation(event: impl Into<String>, comment: impl Into<String>) -> Self {
        let (event, comment) = (Some(event.into()), Some(vec![comment.into()]));
        Self { data: None, id: None, event, comment, error: None }
    }

    /// True if the item reports a failure.
    pub fn is_error(&self) -> bool {
        self.error.is_some() || self.event.as_deref() == Some(ERROR_EVENT)
    }
}

#[cfg(test)]
mod tests {
    use sinew_codec::PayloadFormat;
    use sinew_plane::Error;

    use super::*;

    #[test]
    fn absent_fields_are_not_written_and_not_needed() {
        let item = Annotated::from_data("hello-0");
        let json = PayloadFormat::Json.encode(&item).unwrap();
        assert_eq!(json, r#"{"data":"hello-0"}"#);
        let msgpack = PayloadFormat::Msgpack.encode(&item).unwrap();
        assert_eq!(&msgpack[..], b"\x81\xa4data\xa7hello-0");
        for format in [PayloadFormat::Json, PayloadFormat::Msgpack] {
            let bytes = format.encode(&item).unwrap();
            let back: Annotated<String> = format.decode(&bytes).unwrap();
            assert_eq!(back, Annotated::from_data("hello-0".to_owned()));
        }
    }

    #[test]
    fn failures_are_told_by_event_or_by_error() {
        let error = DynamoError::from_error(&Error::handler("boom"));
        let mut item: Annotated<()> = Annotated::from_error(error);
        assert!(item.is_error());
        item.event = None;
        assert!(item.is_error());
        let event: Annotated<()> = Annotated::from_annotation("error", "boom");
        assert!(event.is_error());
        let note: Annotated<()> = Annotated::from_annotation("worker", "7");
        assert!(!note.is_error());
        let json = PayloadFormat::Json.encode(&note).unwrap();
        assert_eq!(json, r#"{"event":"worker","comment":["7"]}"#);
    }
}
