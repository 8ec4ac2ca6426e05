//! A typed request: a value and its context.

use crate::{Context, HeadersError};

/// One request value and its context: what a router sends and an engine receives.
#[derive(Debug)]
pub struct SingleIn<T> {
    data: T,
    context: Context,
}

impl<T> SingleIn<T> {
    /// Makes a request with a new context.
    pub fn new(data: T) -> Self {
        Self { data, context: Context::new() }
    }

    /// Makes a request with a given context.
    pub fn with_context(data: T, context: Context) -> Self {
        Self { data, context }
    }

    /// The value.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// The context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Adds a header, in a [child](Context::child_with) of the context, because the headers of a
    /// context do not change.
    ///
    /// # Errors
    /// [`HeadersError`] when the name, the value or the headers together break a limit.
    pub fn with_header(self, name: &str, value: &str) -> Result<Self, HeadersError> {
        let mut headers = self.context.headers().clone();
        headers.insert(name, value)?;
        Ok(Self { context: self.context.child_with(headers), data: self.data })
    }

    /// Moves the request to a [child](Context::child) of its context, for an engine that passes it on
    /// to another one. Headers, deadline and limits are the same, and a cancel is passed on. Dropping
    /// the response before its end cancels only the passed-on request.
    ///
    /// ```
    /// use sinew_plane::{Context, SingleIn};
    ///
    /// let context = Context::new();
    /// let passed_on = SingleIn::with_context("hi", context.clone()).into_child();
    /// passed_on.context().kill();
    /// assert!(!context.is_killed());
    /// ```
    #[must_use]
    pub fn into_child(self) -> Self {
        Self { context: self.context.child(), data: self.data }
    }

    /// Splits the request into its value and its context.
    pub fn into_parts(self) -> (T, Context) {
        (self.data, self.context)
    }
}

impl<T> From<T> for SingleIn<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}
