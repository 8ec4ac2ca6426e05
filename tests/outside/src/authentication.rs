//! A layer: a secret in a header, added by the caller and asked for by the worker.
//!
//! [`Token`] stands around a router, [`RequireToken`] around an endpoint of any kind. A real one
//! would make the secret from a key and a time, and speak over TLS.

use std::sync::Arc;

use sinew::{
    AdmittedHandler, AdmittedRequest, AppCode, AsyncEngine, EngineLayer, Error, HandlerLayer,
    ResponseSink, SingleIn, engine_fn, layer_fn,
};

/// The header with the secret.
pub const AUTHORIZATION: &str = "authorization";

/// Adds a secret to each request that goes through: for the calling side.
pub fn with_token<Req, Resp>(token: &str) -> impl EngineLayer<Req, Resp>
where
    Req: Send + 'static,
    Resp: 'static,
{
    let value: Arc<str> = format!("Bearer {token}").into();
    layer_fn(move |inner: Arc<dyn AsyncEngine<Req, Resp>>| {
        let value = Arc::clone(&value);
        engine_fn(move |request: SingleIn<Req>| {
            let (inner, value) = (Arc::clone(&inner), Arc::clone(&value));
            async move {
                let request = request.with_header(AUTHORIZATION, &value);
                let request = request.map_err(|error| {
                    Error::application(AppCode::INVALID_ARGUMENT, error.to_string())
                })?;
                inner.generate(request).await
            }
        })
    })
}

/// Refuses requests that do not show a secret: for the serving side, before anything is decoded.
pub struct RequireToken(Arc<str>);

impl RequireToken {
    /// Lets requests with this secret through.
    pub fn new(token: &str) -> Self {
        Self(format!("Bearer {token}").into())
    }
}

impl HandlerLayer for RequireToken {
    fn layer(&self, inner: Arc<dyn AdmittedHandler>) -> Arc<dyn AdmittedHandler> {
        Arc::new(Guarded { expected: Arc::clone(&self.0), inner })
    }
}

struct Guarded {
    expected: Arc<str>,
    inner: Arc<dyn AdmittedHandler>,
}

impl AdmittedHandler for Guarded {
    fn handle(&self, request: AdmittedRequest<'_>, sink: ResponseSink) {
        match request.headers().get(AUTHORIZATION) {
            Some(shown) if same(shown, &self.expected) => self.inner.handle(request, sink),
            Some(_) => refuse(request, sink, AppCode::PERMISSION_DENIED, "the token is not valid"),
            None => refuse(request, sink, AppCode::UNAUTHENTICATED, "a token is missing"),
        }
    }
}

fn refuse(request: AdmittedRequest<'_>, sink: ResponseSink, code: AppCode, why: &str) {
    request.refuse(sink, Error::application(code, why));
}

/// Takes as long for a wrong secret as for the right one, whatever its first letters.
fn same(one: &str, other: &str) -> bool {
    let differ = one.bytes().zip(other.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
    one.len() == other.len() && differ == 0
}
