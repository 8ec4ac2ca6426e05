//! Converts the error of a handler into the error that its caller gets.

use std::{error::Error as StdError, fmt};

use sinew_plane::{Error, same_type};

use crate::handle::kind;

/// Any error in a box, as the standard library defines it.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The error type for a handler that uses `?` on errors of several types.
///
/// An [`Error`] keeps its code, application code and details, also if it is the source of another
/// error. For any other error the caller gets the texts of the error and its sources, with the code
/// [`HandlerFailed`](crate::Code::HandlerFailed).
///
/// A handler may also return `Result<_, Error>`, `anyhow::Result<_>`, or a result with another
/// [`Failure`].
///
/// ```
/// use sinew::{AppCode, Error, HandlerResult};
///
/// async fn count(text: String) -> HandlerResult<u32> {
///     if text.is_empty() {
///         return Err(Error::application(AppCode::INVALID_ARGUMENT, "no number").into());
///     }
///     Ok(text.parse()?) // the error of the parser becomes the handler's
/// }
/// ```
pub struct HandlerError(Error);

/// The result type for a handler that uses `?` on errors of several types.
pub type HandlerResult<T> = Result<T, HandlerError>;

impl HandlerError {
    /// The error as the caller gets it.
    pub fn into_error(self) -> Error {
        self.0
    }
}

// Not an error by itself: `?` could not convert every other error into it then.
impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self(same_type(error).unwrap_or_else(|error| error_of(&error)))
    }
}

impl From<HandlerError> for BoxError {
    fn from(error: HandlerError) -> Self {
        Box::new(error.0)
    }
}

impl AsRef<dyn StdError + Send + Sync> for HandlerError {
    fn as_ref(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &self.0
    }
}

/// The error type of a handler. It is implemented for
///
/// - every type that is an error, [`Error`] among them;
/// - every type that gives a reference to an error: [`HandlerError`], [`BoxError`],
///   `anyhow::Error`, `eyre::Report`;
/// - texts.
///
/// An [`Error`] keeps its code, also among the sources of another error. The compiler infers
/// `Kind`, which tells these forms apart.
// A conversion into `BoxError` is not enough: that of `anyhow` hides the type of the error.
#[diagnostic::on_unimplemented(
    message = "a handler cannot fail with `{Self}`",
    note = "it may fail with an error, with `HandlerError`, `Box<dyn Error + Send + Sync>` or \
            `anyhow::Error`, or with a text"
)]
pub trait Failure<Kind>: Send {
    /// The error as the caller gets it.
    fn into_error(self) -> Error;
}

impl<E: StdError + Send + Sync + 'static> Failure<kind::Own> for E {
    fn into_error(self) -> Error {
        same_type(self).unwrap_or_else(|error| error_of(&error))
    }
}

impl<E: AsRef<dyn StdError + Send + Sync> + Send> Failure<kind::Shown> for E {
    fn into_error(self) -> Error {
        error_of(self.as_ref())
    }
}

impl Failure<kind::Text> for String {
    fn into_error(self) -> Error {
        Error::handler(self)
    }
}

impl Failure<kind::Text> for &'static str {
    fn into_error(self) -> Error {
        Error::handler(self)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Keeps an [`Error`], and the code and details of an [`Error`] among the sources. The message has
/// the texts of all sources.
fn error_of(error: &(dyn StdError + 'static)) -> Error {
    if let Some(ours) = error.downcast_ref::<Error>() {
        return ours.clone();
    }
    let (mut message, mut ours) = (error.to_string(), None);
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.ends_with(&text) {
            message = format!("{message}: {text}");
        }
        ours = ours.or_else(|| cause.downcast_ref::<Error>());
        source = cause.source();
    }
    match ours {
        Some(ours) => ours.with_message(message),
        None => Error::handler(message),
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::{AppCode, Code};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the model is not loaded")]
    struct Outer(#[source] Error);

    fn parse(text: &str) -> HandlerResult<u32> {
        Ok(text.parse()?)
    }

    /// As the caller gets what a handler failed with.
    fn error_of<Kind>(error: impl Failure<Kind>) -> Error {
        error.into_error()
    }

    #[test]
    fn every_foreign_error_becomes_the_handlers_with_its_sources() {
        let error = parse("x").unwrap_err().into_error();
        assert_eq!(error.code(), Code::HandlerFailed);
        assert_eq!(error.message(), "invalid digit found in string");
        for error in [
            error_of("out of order"),
            error_of("out of order".to_owned()),
            error_of(BoxError::from("out of order")),
            error_of(std::io::Error::other("out of order")),
            error_of(anyhow::anyhow!("out of order")),
        ] {
            assert_eq!((error.code(), error.message()), (Code::HandlerFailed, "out of order"));
        }
        let chain = anyhow::Error::new(std::io::Error::other("inner")).context("outer");
        assert_eq!(error_of(chain).message(), "outer: inner");
    }

    #[test]
    fn an_error_of_ours_keeps_its_code_and_details_wherever_it_stands() {
        let ours = || {
            let error = Error::application(AppCode::NOT_FOUND, "no such model");
            error.with_details("small").unwrap()
        };
        let question = || -> HandlerResult<()> { Err(ours())? };
        let wrapped = || -> HandlerResult<()> { Err(Outer(ours()))? };
        let anyhow_question = || -> anyhow::Result<()> { Err(ours())? };
        for (error, message) in [
            (question().unwrap_err().into_error(), "no such model"),
            (error_of(question().unwrap_err()), "no such model"),
            (error_of(ours()), "no such model"),
            (error_of(BoxError::from(ours())), "no such model"),
            (error_of(anyhow_question().unwrap_err()), "no such model"),
            (wrapped().unwrap_err().into_error(), "the model is not loaded: no such model"),
            (error_of(Outer(ours())), "the model is not loaded: no such model"),
            (
                error_of(anyhow::Error::new(ours()).context("the model is not loaded")),
                "the model is not loaded: no such model",
            ),
        ] {
            assert_eq!(error.app_code(), Some(AppCode::NOT_FOUND), "{error}");
            assert_eq!((error.message(), &error.details()[..]), (message, &b"small"[..]));
        }
    }
}
