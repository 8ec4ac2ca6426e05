//! An adapter: services and layers of `tower` around what a worker serves or a caller calls.
//!
//! Whatever `tower` or another crate has for its `Service` fits: limits, timeouts, buffers, filters.

use std::sync::Arc;

use sinew::{AsyncEngine, EngineLayer, EngineService, ManyOut, ServiceEngine, SingleIn, layer_fn};
use tower::{Service, ServiceBuilder, limit::GlobalConcurrencyLimitLayer};

/// A layer that lets so many requests begin at once, over all engines that it is put around. Others
/// wait, and leave the line when they are cancelled.
pub fn at_most<Req, Resp>(requests: usize) -> impl EngineLayer<Req, Resp>
where
    Req: Send + 'static,
    Resp: 'static,
{
    let limit = GlobalConcurrencyLimitLayer::new(requests);
    layer_fn(move |inner: Arc<dyn AsyncEngine<Req, Resp>>| {
        let service = ServiceBuilder::new().layer(limit.clone());
        ServiceEngine::new(service.service(EngineService::new(inner)))
    })
}

/// A `tower` service as what a worker serves.
pub fn engine_of<S, Req, Resp>(service: S) -> impl AsyncEngine<Req, Resp>
where
    S: Service<SingleIn<Req>, Response = ManyOut<Resp>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Req: Send + 'static,
{
    ServiceEngine::new(service)
}
