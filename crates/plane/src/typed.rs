//! A typed request: a value and its context.

use crate::{Context, HeadersError};

/// One request value and its context: what a router sends and an engine receives.
#[derive(Debug)]
pub struct SingleIn<T> {
    data: T,
    context: Context,
}

impl<T> SingleIn<T> {
    /// A request with a context of its own.
    pub fn new(data: T) -> Self {
        Self { data, context: Context::new() }
    }

    /// A request with a given context.
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

    /// The same request with one more header, in a [child](Context::child_with) of its context:
    /// the headers of a context do not change.
    ///
    /// # Errors
    /// [`HeadersError`] when the name, the value or the headers together break a limit.
    pub fn with_header(self, name: &str, value: &str) -> Result<Self, HeadersError> {
        let mut headers = self.context.headers().clone();
        headers.insert(name, value)?;
        Ok(Self { context: self.context.child_with(headers), data: self.data })
    }

    /// The same request in a [child](Context::child) of its context: headers, deadline and limits are
    /// the same, a cancel goes on, and a response that is dropped before its end cancels this request
    /// alone. For an engine that passes a request on to another one.
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

    /// Both parts.
    pub fn into_parts(self) -> (T, Context) {
        (self.data, self.context)
    }
}

impl<T> From<T> for SingleIn<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}
