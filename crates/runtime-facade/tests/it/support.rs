//! A worker and a caller that find each other in a folder.

use std::time::Duration;

use sinew::{DiscoverySource, Endpoint, Router, Runtime};
use tempfile::TempDir;

/// Far longer than anything here takes; only a failure waits for it.
pub(crate) const GUARD: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) worker: Runtime,
    pub(crate) caller: Runtime,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = || {
            let source = DiscoverySource::File(folder.path().to_owned());
            Runtime::builder().discovery(source).build()
        };
        let (worker, caller) = (start().await.unwrap(), start().await.unwrap());
        Self { worker, caller, _folder: folder }
    }

    /// A router of the caller that knows the worker.
    pub(crate) async fn router<Req, Resp>(
        &self,
        endpoint: &Endpoint<Req, Resp>,
    ) -> Router<Req, Resp>
    where
        Req: serde_core::Serialize + Send + Sync + 'static,
        Resp: serde_core::de::DeserializeOwned + Send + 'static,
    {
        let router = self.caller.router(endpoint);
        router.wait_for_instances(GUARD).await.unwrap();
        router
    }

    pub(crate) async fn end(self) {
        assert!(self.caller.shutdown(GUARD).await.is_clean());
        assert!(self.worker.shutdown(GUARD).await.is_clean());
    }
}
