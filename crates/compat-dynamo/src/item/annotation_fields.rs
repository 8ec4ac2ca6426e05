//! The fields that were found in an annotated item.

use sinew_plane::{Code, Error, Executed};

use crate::DynamoError;

/// The parts of an annotated item that decide what becomes of it.
pub(super) struct AnnotationFields<'a> {
    pub(super) data: Option<&'a [u8]>,
    pub(super) error: Option<Error>,
}

/// What an item says about a failure, before that is made into an error.
#[derive(Default)]
pub(super) struct Failure {
    /// The field `error`: there, and readable or not.
    pub(super) error: Option<Option<DynamoError>>,
    /// The field `event` is `error`.
    pub(super) is_event: bool,
    /// The field `comment`.
    pub(super) comment: Vec<String>,
}

impl Failure {
    /// The error, if there is one. The handler that told of it has run.
    pub(super) fn into_error(self) -> Option<Error> {
        if let Some(Some(error)) = &self.error {
            return Some(error.to_error().with_executed(Executed::Yes));
        }
        if self.error.is_none() && !self.is_event {
            return None;
        }
        let text = if self.comment.is_empty() {
            "the worker failed and did not say how".to_owned()
        } else {
            self.comment.join(", ")
        };
        Some(Error::new(Code::HandlerFailed, text))
    }
}
