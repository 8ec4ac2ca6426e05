//! Which transport the streams of an endpoint use, and are to use.

use sinew_discovery::{DiscoveryError, Instance, PlanePolicy, PolicyView};
use sinew_plane::{EndpointName, TransportId, TransportRequirements};
use sinew_registry::Proximity;

use super::Runtime;

impl Runtime {
    /// Stores a policy in discovery, in the place of any that its endpoint has, and returns it as it
    /// is stored. All routers of the endpoint follow it: new streams first, then those that run. If
    /// the future is dropped, it may be stored or not.
    ///
    /// # Errors
    /// [`DiscoveryError::NoPolicies`] if the discovery holds none, [`DiscoveryError::Invalid`] if a
    /// field is out of its bounds; discovery cannot be reached or written.
    pub async fn put_policy(&self, policy: PlanePolicy) -> Result<PlanePolicy, DiscoveryError> {
        self.0.discovery.put_policy(policy).await
    }

    /// Removes the policy of an endpoint. False if there was none. Routers then choose transports as
    /// without one; streams that run stay where they are. If the future is dropped, it may be removed
    /// or not.
    ///
    /// # Errors
    /// As [`put_policy`](Self::put_policy).
    pub async fn remove_policy(&self, endpoint: &EndpointName) -> Result<bool, DiscoveryError> {
        self.0.discovery.remove_policy(endpoint).await
    }

    /// The policy of an endpoint, and what becomes of it. `None` if the discovery holds no policies.
    ///
    /// # Errors
    /// Discovery was shut down.
    pub fn watch_policy(
        &self,
        endpoint: &EndpointName,
    ) -> Result<Option<PolicyView>, DiscoveryError> {
        self.0.discovery.watch_policy(endpoint)
    }

    /// The transports over which this process reaches an instance, in the order in which a router
    /// without a policy tries them.
    pub fn transports_to(&self, instance: &Instance) -> Vec<TransportId> {
        let proximity = Proximity::between(&self.0.here, instance);
        let required = TransportRequirements::default();
        let routes = self.0.registry.resolve(&instance.addresses, proximity, &required);
        routes.iter().map(|route| route.transport.id().clone()).collect()
    }
}
