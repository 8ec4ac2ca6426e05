//! The calling side of a typed endpoint.

use std::{fmt, sync::Arc, time::Duration};

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::Instance;
use sinew_plane::{CallLimits, Error, TransportRequirements, Window};
use sinew_router::{Client, PushRouter, RetryConfig, RouterMode};

use crate::Call;

/// Calls a typed endpoint: made by [`Runtime::router`](crate::Runtime::router), and ready for
/// calls at once. Clones share the rotation, the counts of requests in flight, the retry budget and
/// what is known of instances that failed.
///
/// Underneath is a [`PushRouter`], which the design documents name.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use sinew::{DiscoverySource, Endpoint, HandlerResult, Runtime};
///
/// const GREET: Endpoint<String, String> = Endpoint::new("text/words/greet");
///
/// async fn greet(name: String) -> HandlerResult<String> {
///     Ok(format!("hello, {name}"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await?;
/// let _served = runtime.serve(&GREET, greet).await?;
///
/// let router = runtime.router(&GREET);
/// let text = router.call("you").timeout(Duration::from_secs(2)).unary().await?;
/// assert_eq!(text, "hello, you");
/// # Ok(())
/// # }
/// ```
pub struct Router<Req, Resp>(PushRouter<Req, Resp>);

impl<Req, Resp> Router<Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    pub(crate) fn new(client: Client) -> Self {
        Self(PushRouter::new(client, RouterMode::RoundRobin))
    }

    /// A call, which is sent when it is awaited.
    pub fn call(&self, value: impl Into<Req>) -> Call<'_, Req, Resp> {
        Call::new(&self.0, value.into())
    }

    /// How an instance is chosen, instead of one after the other.
    #[must_use]
    pub fn mode(self, mode: RouterMode) -> Self {
        Self(self.0.with_mode(mode))
    }

    /// When a request is sent again. The budget is a fresh one.
    #[must_use]
    pub fn retry(self, retry: RetryConfig) -> Self {
        Self(self.0.with_retry(retry))
    }

    /// Limits for the waits of its calls, where a call leaves them open.
    #[must_use]
    pub fn limits(self, limits: CallLimits) -> Self {
        Self(self.0.with_limits(limits))
    }

    /// One payload format for every instance, instead of the first that the instance lists.
    #[must_use]
    pub fn format(self, format: PayloadFormat) -> Self {
        Self(self.0.with_format(format))
    }

    /// A flow-control window of its own for responses.
    #[must_use]
    pub fn window(self, window: Window) -> Self {
        Self(self.0.with_window(window))
    }

    /// Asks instances of this process before all others.
    #[must_use]
    pub fn prefer_local(self, prefer: bool) -> Self {
        Self(self.0.prefer_local(prefer))
    }

    /// What a transport has to offer to carry its calls, such as encryption. The default is a
    /// stream of responses.
    #[must_use]
    pub fn require(self, required: TransportRequirements) -> Self {
        Self(self.0.with_requirements(required))
    }

    /// Waits until an instance is known, for no longer than `timeout`. A call does not wait: it
    /// fails where there is none. Cancel-safe.
    ///
    /// # Errors
    /// As [`Client::wait_for_instances`].
    pub async fn wait_for_instances(&self, timeout: Duration) -> Result<Vec<Arc<Instance>>, Error> {
        self.0.client().wait_for_instances(timeout).await
    }

    /// The router underneath.
    pub fn push_router(&self) -> &PushRouter<Req, Resp> {
        &self.0
    }
}

impl<Req, Resp> Clone for Router<Req, Resp> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Req, Resp> fmt::Debug for Router<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Router").field(&self.0).finish()
    }
}
