//! What an attempt says in its headers: how its body is encoded, its place in a trace, and what a
//! program adds.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sinew_codec::PayloadFormat;
use sinew_discovery::Instance;
use sinew_plane::{Code, Context, Error, Executed, Headers, HeadersError, header};
use sinew_telemetry::{TraceParent, trace};

/// Changes the headers of each attempt before the router sends it:
/// [`PushRouter::with_interceptor`](crate::PushRouter::with_interceptor) adds one.
///
/// An [`EngineLayer`](sinew_plane::EngineLayer) sees a request once. An interceptor sees each attempt
/// and the chosen instance, so it can, for example, sign a request for that instance. A request to an engine of the same process is passed on as a value, without an interceptor.
///
/// [`ContentType`] and [`TraceContext`] run in every router, in this order, and those of the program
/// after them. A function of these arguments is an interceptor.
///
/// ```
/// use sinew_plane::{AppCode, Error, Headers};
/// use sinew_router::{Interceptor, OutgoingAttempt};
///
/// fn interceptor(_: impl Interceptor) {}
///
/// interceptor(|attempt: &OutgoingAttempt<'_>, headers: &mut Headers| {
///     let audience = attempt.instance.key().to_string();
///     let signed = headers.insert("x-audience", &audience);
///     signed.map_err(|error| Error::application(AppCode::INVALID_ARGUMENT, error.to_string()))
/// });
/// ```
pub trait Interceptor: Send + Sync {
    /// Changes `headers` within their limits ([`Headers`]). They begin as the caller's headers, already
    /// changed by earlier interceptors. The method runs in the caller's task for each attempt, so it
    /// must return at once.
    ///
    /// # Errors
    /// The attempt fails with this error before anything is sent, as one that did not run. The retry policy decides what
    /// follows, as after each failed attempt.
    fn intercept(&self, attempt: &OutgoingAttempt<'_>, headers: &mut Headers) -> Result<(), Error>;
}

/// An attempt that is about to be sent.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct OutgoingAttempt<'a> {
    /// The instance that was picked.
    pub instance: &'a Instance,
    /// How the body is encoded.
    pub format: PayloadFormat,
    /// The context of the request: the headers that its caller set, its deadline and its id.
    pub context: &'a Context,
    /// 0 for the first attempt, then 1, 2, ... for the same request sent again.
    pub number: usize,
}

impl<F> Interceptor for F
where
    F: Fn(&OutgoingAttempt<'_>, &mut Headers) -> Result<(), Error> + Send + Sync,
{
    fn intercept(&self, attempt: &OutgoingAttempt<'_>, headers: &mut Headers) -> Result<(), Error> {
        self(attempt, headers)
    }
}

/// Says how the body is encoded, in the header `content-type`. Raw bytes keep the content type that
/// the caller set.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContentType;

impl ContentType {
    /// The headers of most requests, made once for each format.
    fn alone(format: PayloadFormat) -> Headers {
        static OF_FORMAT: OnceLock<Vec<(PayloadFormat, Headers)>> = OnceLock::new();
        let of_format = OF_FORMAT.get_or_init(|| {
            let alone = |format: PayloadFormat| {
                let mut headers = Headers::new();
                // One short header is within every limit.
                let _ = headers.insert(header::CONTENT_TYPE, format.content_type());
                // Static, so that the cores that send requests share no count of its clones.
                let block = Bytes::from_static(headers.as_block().to_vec().leak());
                (format, Headers::decode(block).unwrap_or_default())
            };
            PayloadFormat::ALL.into_iter().map(alone).collect()
        });
        let found = of_format.iter().find(|(known, _)| *known == format);
        found.map_or_else(Headers::new, |(_, headers)| headers.clone())
    }
}

impl Interceptor for ContentType {
    fn intercept(&self, attempt: &OutgoingAttempt<'_>, headers: &mut Headers) -> Result<(), Error> {
        let is_raw = attempt.format == PayloadFormat::Raw;
        if is_raw && headers.get(header::CONTENT_TYPE).is_some() {
            return Ok(());
        }
        headers.insert(header::CONTENT_TYPE, attempt.format.content_type()).map_err(no_room)
    }
}

/// Gives each attempt a span of its own in the caller's trace, in the header `traceparent` of W3C's
/// Trace Context. Without a trace of the caller it begins one if a subscriber wants the spans of
/// requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceContext;

impl Interceptor for TraceContext {
    fn intercept(&self, attempt: &OutgoingAttempt<'_>, headers: &mut Headers) -> Result<(), Error> {
        let observed = tracing::enabled!(target: trace::TARGET, tracing::Level::DEBUG);
        match TraceParent::for_hop(attempt.context.headers(), observed) {
            Some(parent) => parent.inject(headers).map_err(no_room),
            None => Ok(()),
        }
    }
}

fn no_room(error: HeadersError) -> Error {
    let message = format!("the request's headers leave no room for Sinew's own: {error}");
    Error::new(Code::TooLarge, message).with_source(error)
}

/// The headers of one attempt: the caller's, the router's own, and what `added` makes of them.
pub(crate) fn headers(
    attempt: &OutgoingAttempt<'_>,
    added: &[Arc<dyn Interceptor>],
) -> Result<Headers, Error> {
    let base = attempt.context.headers();
    let mut headers;
    if base.is_empty() {
        headers = ContentType::alone(attempt.format);
    } else {
        headers = base.clone();
        ContentType.intercept(attempt, &mut headers)?;
    }
    TraceContext.intercept(attempt, &mut headers)?;
    for one in added {
        let changed = one.intercept(attempt, &mut headers);
        changed.map_err(|error| error.with_executed(Executed::No))?;
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use sinew_plane::InstanceId;

    use super::*;

    /// What an attempt of a request with these headers sends.
    fn sent(base: &Headers, format: PayloadFormat) -> Headers {
        let instance = Instance::new("a/b/c".parse().unwrap(), InstanceId(1), Vec::new());
        let context = Context::builder().headers(base.clone()).build();
        let context = &context;
        headers(&OutgoingAttempt { instance: &instance, format, context, number: 0 }, &[]).unwrap()
    }

    #[test]
    fn a_content_type_is_kept_for_raw_bytes_only() {
        let mut base = Headers::new();
        base.insert(header::CONTENT_TYPE, "application/json; charset=utf-8").unwrap();
        base.insert("authorization", "token").unwrap();
        let typed = sent(&base, PayloadFormat::Msgpack);
        assert_eq!(typed.get(header::CONTENT_TYPE), Some("application/msgpack"));
        assert_eq!(typed.get("authorization"), Some("token"));
        let raw = sent(&base, PayloadFormat::Raw);
        assert_eq!(raw.get(header::CONTENT_TYPE), base.get(header::CONTENT_TYPE));
        let plain = sent(&Headers::new(), PayloadFormat::Raw);
        assert_eq!(plain.get(header::CONTENT_TYPE), Some("application/octet-stream"));
    }

    #[test]
    fn a_trace_goes_on_with_a_new_span() {
        let mut base = Headers::new();
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        base.insert(header::TRACEPARENT, given).unwrap();
        let sent = sent(&base, PayloadFormat::Json);
        let sent = sent.get(header::TRACEPARENT).unwrap();
        assert_eq!(&sent[..35], &given[..35]);
        assert_ne!(&sent[36..52], &given[36..52]);
    }
}
