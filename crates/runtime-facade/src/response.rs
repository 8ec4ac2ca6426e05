//! A whole response: its value with what was said beside it.

use sinew_plane::{Headers, Migrated};

/// The value of a call with the head and the facts of its response:
/// [`Call::unary_response`](crate::Call::unary_response) and
/// [`Call::collect_response`](crate::Call::collect_response) return it.
///
/// # Examples
/// ```
/// use futures_util::stream;
/// use sinew::{
///     DiscoverySource, Endpoint, Error, Headers, HeadersError, ManyOut, Runtime, SingleIn, engine_fn,
/// };
///
/// const GREET: Endpoint<String, String> = Endpoint::new("text/words/greet");
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await?;
/// let greet = engine_fn(|request: SingleIn<String>| async move {
///     let (name, context) = request.into_parts();
///     let (mut head, mut facts) = (Headers::new(), Headers::new());
///     let invalid = |error: HeadersError| Error::handler(format!("a header: {error}"));
///     head.insert("model", "small").map_err(invalid)?;
///     facts.insert("tokens", "2").map_err(invalid)?;
///     let values = stream::iter([Ok(format!("hello, {name}"))]);
///     Ok::<_, Error>(ManyOut::new(values, context).with_head(head).with_facts(|| facts))
/// });
/// let served = runtime.serve(&GREET, greet).await?;
///
/// let response = runtime.router(&GREET).call("you").unary_response().await?;
/// assert_eq!(response.head.get("model"), Some("small"));
/// assert_eq!(response.facts.get("tokens"), Some("2"));
/// assert_eq!(response.into_inner(), "hello, you");
/// # served.drain().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response<T> {
    /// What the handler returned.
    pub value: T,
    /// What the handler said before its first value; empty if it said nothing.
    pub head: Headers,
    /// What the handler said of the whole response at its end, such as what it cost; empty if it said
    /// nothing.
    pub facts: Headers,
    /// The moves of the response to other instances, in their order, each with how many items were
    /// made again: see [`Continuation`](crate::Continuation). Usually empty. The head is that of the
    /// first run that has one, the facts are those of the last.
    pub migrations: Vec<Migrated>,
}

impl<T> Response<T> {
    pub(crate) fn new(value: T, head: Headers, facts: Headers, migrations: Vec<Migrated>) -> Self {
        Self { value, head, facts, migrations }
    }

    /// The value alone.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// The same response with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Response<U> {
        let Self { value, head, facts, migrations } = self;
        Response { value: change(value), head, facts, migrations }
    }
}
