//! An address that a worker announces and does not listen at: a proxy does.

use std::{future::ready, sync::Arc, time::Duration};

use sinew::{
    Address, CheckedConfig, Error, Listener, Shutdown,
    layers::plane::{BoxFuture, RequestHandler},
};

pub(crate) struct Announced(pub(crate) Address);

impl Listener for Announced {
    fn name(&self) -> &str {
        "proxy"
    }

    fn start<'a>(
        &'a self,
        _config: &'a CheckedConfig,
        _handler: Arc<dyn RequestHandler>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(ready(Ok(())))
    }

    fn addresses(&self) -> Vec<Address> {
        vec![self.0.clone()]
    }

    fn stop(&self, _grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(ready(Shutdown::default()))
    }
}
