//! The instances of one endpoint, and the routes to each.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use sinew_discovery::{Discovery, Instance, PolicyView, View};
use sinew_plane::{
    CallLimits, EndpointName, Error, InstanceId, TransportId, TransportRequirements,
};
use sinew_registry::{
    LocalEndpoint, LocalEndpoints, LocalProcess, Proximity, Route, TransportRegistry,
};

use crate::{
    AddressedPushRouter, CheckedPolicyConfig, RequestTransport, no_instance,
    policy::{Pinned, Policies},
};

/// The instances of one endpoint that discovery has now, and the routes to each of them. Clones
/// share everything.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    endpoint: EndpointName,
    view: View,
    locals: LocalEndpoints,
    here: LocalProcess,
    limits: CallLimits,
    egress: AddressedPushRouter,
    /// The discovery, which is asked for its problem if no instance is found.
    discovery: Option<Arc<dyn Discovery>>,
    /// What the discovery says of the endpoint, looked at from the moment when it is set, so that
    /// the first call knows it. `None` if the discovery holds no policies.
    policy_view: Option<PolicyView>,
    /// How its routers follow the policy that the discovery has of the endpoint.
    policy: CheckedPolicyConfig,
    /// The members of the newest snapshot. The first request that sees a change computes them, so
    /// no task is needed.
    members: ArcSwap<Members>,
}

/// The instances at one revision, in the order of their ids, and the routes to each.
#[derive(Default)]
pub(crate) struct Members {
    /// Revisions of the snapshot and of the registry; `None` before the first look.
    pub(crate) seen: Option<(u64, u64)>,
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) routes: Vec<Vec<Route>>,
    /// The same routes in the order of the policy that was followed last.
    pub(crate) pinned: ArcSwap<Pinned>,
    /// The instances that cannot be reached from this process. No request is sent to them.
    pub(crate) unreachable: Vec<Arc<Instance>>,
}

impl Members {
    /// The routes to an instance with this transport first. `None` if it has no address for it.
    pub(crate) fn pinned(&self, index: usize, transport: &TransportId) -> Option<Arc<[Route]>> {
        let pinned = self.pinned.load();
        if pinned.is_for(transport) {
            return pinned.of(index);
        }
        let pinned = Pinned::new(transport, &self.routes);
        let routes = pinned.of(index);
        self.pinned.store(Arc::new(pinned));
        routes
    }
}

impl Client {
    /// Makes a client for `endpoint`. `view` has its instances, `registry` the transports that
    /// reach them, `here` describes this process and `locals` has the endpoints that it serves
    /// itself.
    pub fn new(
        endpoint: EndpointName,
        view: View,
        registry: Arc<TransportRegistry>,
        locals: LocalEndpoints,
        here: LocalProcess,
    ) -> Self {
        let egress = AddressedPushRouter::from_mode(RequestTransport::Auto, registry);
        let members = ArcSwap::default();
        let limits = CallLimits::default();
        let (discovery, policy_view, policy) = (None, None, CheckedPolicyConfig::default());
        Self(Arc::new(Inner {
            endpoint,
            view,
            locals,
            here,
            limits,
            egress,
            discovery,
            policy_view,
            policy,
            members,
        }))
    }

    /// Sets the time limits of calls whose context sets none. A limit that is `None` here stays as
    /// it was.
    #[must_use]
    pub fn with_limits(&self, limits: CallLimits) -> Self {
        self.change(|inner| inner.limits = limits.or(inner.limits))
    }

    /// Sets the discovery whose [`trouble`](Discovery::trouble) the client reports if it finds no
    /// instance, and whose [policy](sinew_discovery::PlanePolicy) of the endpoint its routers follow.
    #[must_use]
    pub fn with_discovery(&self, discovery: Arc<dyn Discovery>) -> Self {
        // A discovery that was shut down says nothing new.
        let policy_view = discovery.watch_policy(&self.0.endpoint).ok().flatten();
        self.change(|inner| {
            inner.discovery = Some(discovery);
            inner.policy_view = policy_view;
        })
    }

    /// Sets how routers that are made with the client from now on follow the policy of the endpoint.
    /// The first router of a [memory](crate::RouterMemory) decides for all that share it.
    #[must_use]
    pub fn with_policy_config(&self, config: CheckedPolicyConfig) -> Self {
        self.change(|inner| inner.policy = config)
    }

    /// What follows the policy of the endpoint; `None` without a discovery that holds policies.
    pub(crate) fn policies(&self) -> Option<Arc<Policies>> {
        let Inner { endpoint, policy_view, policy, .. } = &*self.0;
        Some(Policies::new(endpoint.clone(), policy_view.clone()?, policy.clone()))
    }

    /// The same for all clones, and for no other client of that time.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The time limits of its calls.
    pub fn limits(&self) -> CallLimits {
        self.0.limits
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Inner {
            endpoint: self.0.endpoint.clone(),
            view: self.0.view.clone(),
            locals: self.0.locals.clone(),
            here: self.0.here.clone(),
            limits: self.0.limits,
            egress: self.0.egress.clone(),
            discovery: self.0.discovery.clone(),
            policy_view: self.0.policy_view.clone(),
            policy: self.0.policy.clone(),
            members: ArcSwap::default(),
        };
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// Restricts the client to the transports that `mode` allows. If `mode` names one, that
    /// transport also carries calls within the process.
    #[must_use]
    pub fn with_transport(&self, mode: RequestTransport) -> Self {
        self.change(|inner| inner.egress = inner.egress.with_mode(mode))
    }

    /// Restricts the client to transports that have what is `required`, such as encryption. Direct
    /// calls within the process use no transport and stay allowed.
    #[must_use]
    pub fn with_requirements(&self, required: TransportRequirements) -> Self {
        self.change(|inner| inner.egress = inner.egress.with_requirements(required))
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &EndpointName {
        &self.0.endpoint
    }

    /// The low-level router that sends the requests.
    pub fn addressed(&self) -> &AddressedPushRouter {
        &self.0.egress
    }

    /// The current instances that can be reached from this process, in the order of their ids.
    pub fn instances(&self) -> Vec<Arc<Instance>> {
        self.members().instances.clone()
    }

    /// The current instances that cannot be reached from this process, in the order of their ids.
    /// [`Instance::unreachable`] of each says why.
    pub fn unreachable(&self) -> Vec<Arc<Instance>> {
        self.members().unreachable.clone()
    }

    /// The ids of the [instances](Self::instances), in order.
    pub fn instance_ids(&self) -> Vec<InstanceId> {
        self.members().instances.iter().map(|one| one.id).collect()
    }

    /// Waits until discovery has at least one instance of the endpoint that can be reached.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`NoInstances`](sinew_plane::Code::NoInstances) when there is none within `timeout`, or
    /// discovery shut down; [`NoTransport`](sinew_plane::Code::NoTransport) if there are only
    /// instances that cannot be reached from this process.
    pub async fn wait_for_instances(&self, timeout: Duration) -> Result<Vec<Arc<Instance>>, Error> {
        let mut view = self.0.view.clone();
        let found = view.has_instance_of(&self.0.endpoint);
        match tokio::time::timeout(timeout, found).await {
            Ok(true) => Ok(self.instances()),
            _ => Err(self.no_instances()),
        }
    }

    /// A view of its own, in which what is known now counts as seen.
    pub(crate) fn view(&self) -> View {
        self.0.view.clone()
    }

    pub(crate) fn members(&self) -> Arc<Members> {
        let snapshot = self.0.view.snapshot();
        let seen = Some((snapshot.revision(), self.0.egress.registry().revision()));
        let members = self.0.members.load();
        if members.seen == seen {
            return Arc::clone(&members);
        }
        let known = snapshot.of(&self.0.endpoint).map(Arc::clone);
        let (instances, unreachable): (Vec<_>, _) = known.partition(|one| one.is_reachable());
        let routes = instances.iter().map(|one| self.routes(one)).collect();
        let pinned = ArcSwap::default();
        let members = Arc::new(Members { seen, instances, routes, pinned, unreachable });
        // Two requests may do this at once; if the older one stores last, the next looks again.
        self.0.members.store(Arc::clone(&members));
        members
    }

    fn routes(&self, instance: &Instance) -> Vec<Route> {
        if !self.is_local(instance) {
            let proximity = Proximity::between(&self.0.here, instance);
            return self.0.egress.routes(&instance.addresses, proximity);
        }
        let own = self.0.here.addresses.iter();
        let addresses: Vec<_> = own.chain(&instance.addresses).cloned().collect();
        self.0.egress.routes(&addresses, Proximity::Process)
    }

    /// The instance as this process serves it, if it does and if calls may bypass the transports.
    pub(crate) fn local(&self, instance: &Instance) -> Option<LocalEndpoint> {
        if !self.may_be_local(instance) {
            return None;
        }
        self.0.locals.get(&self.0.endpoint, instance.id)
    }

    /// True when this process serves the instance.
    pub(crate) fn is_local(&self, instance: &Instance) -> bool {
        self.may_be_local(instance) && self.0.locals.contains(&self.0.endpoint, instance.id)
    }

    /// False for an instance that runs in another process, and where calls must take a transport.
    fn may_be_local(&self, instance: &Instance) -> bool {
        !instance.any_id
            && *self.0.egress.mode() == RequestTransport::Auto
            && self.0.here.process.zip(instance.process).is_none_or(|(ours, its)| ours == its)
    }

    /// The error of a call for which there is no instance, or none that can be reached.
    pub(crate) fn no_instances(&self) -> Error {
        no_instance::none_reachable(&self.0.endpoint, &self.members().unreachable)
            .unwrap_or_else(|| no_instance::none_known(&self.0.endpoint, self.trouble()))
    }

    /// The error of a call to one instance that does not exist or cannot be reached.
    pub(crate) fn no_such_instance(&self, id: InstanceId) -> Error {
        let members = self.members();
        let named = members.unreachable.iter().filter(|one| one.id == id);
        let named: Vec<_> = named.map(Arc::clone).collect();
        no_instance::none_reachable(&self.0.endpoint, &named)
            .or_else(|| no_instance::none_with_id(&self.0.endpoint, id, &self.instance_ids()))
            .unwrap_or_else(|| self.no_instances())
    }

    fn trouble(&self) -> Option<String> {
        self.0.discovery.as_ref()?.trouble()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Client");
        debug.field("endpoint", &self.0.endpoint).field("instances", &self.instance_ids()).finish()
    }
}
