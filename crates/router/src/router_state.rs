//! The state of a router that its requests share.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Instant,
};

use parking_lot::Mutex;
use sinew_discovery::Instance;
use sinew_plane::{Error, Headers, InstanceId, clock};

use crate::{
    AttemptOutcome, AttemptReport, Choice, Client, EjectFailed, InFlightGuard, LoadBalancer,
    OutlierPolicy, Picker, RetryBudget, RetryConfig, RetryPolicy, Verdict, client::Members,
    outlier::outcome_of, picker::Strategies, policy::Policies, retry_config::Attempts,
};

/// The counts of requests in flight, the ejections, the retry budget, and the parts that decide.
/// Each part has its own lock; code that needs two takes the picker's first. Time is an argument.
#[derive(Clone)]
pub(crate) struct RouterState {
    /// Locked from a choice until the chosen instance is counted.
    picker: Arc<Mutex<Picker>>,
    strategies: Arc<Strategies>,
    /// The program's own strategy, in place of the mode's.
    custom: Option<Arc<dyn LoadBalancer>>,
    outliers: Arc<dyn OutlierPolicy>,
    retry: Arc<dyn RetryPolicy>,
    /// The user's own, which stay with other retry rules.
    has_own_outliers: bool,
    has_own_retry: bool,
    budget: Arc<Mutex<RetryBudget>>,
    /// What the ejections and the budget were made of.
    config: Arc<RetryConfig>,
    /// What follows the policy of the endpoint, once a router was made whose discovery holds
    /// policies.
    policies: Arc<OnceLock<Arc<Policies>>>,
}

/// The chosen instance, which counts one more request in flight from now on.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) choice: Choice,
    pub(crate) permit: InFlightGuard,
    /// True if it was chosen in spite of an ejection, because it was named or because there was no
    /// other.
    pub(crate) in_spite: bool,
}

/// What a router remembers from one request to the next: its retry budget, which instances failed,
/// the requests in flight and the round-robin position. Clones share one memory, and so do routers
/// that are made with it.
#[derive(Clone)]
pub struct RouterMemory(pub(crate) Arc<RouterState>);

impl RouterMemory {
    /// A memory with a full budget of the default [`RetryConfig`].
    pub fn new() -> Self {
        Self(Arc::new(RouterState::new(&RetryConfig::default(), clock::now())))
    }

    /// True if a router or another clone has it too.
    pub fn is_shared(&self) -> bool {
        // A router with rules of its own has a state of its own, and the picker of this one.
        Arc::strong_count(&self.0) > 1 || Arc::strong_count(&self.0.picker) > 1
    }
}

impl Default for RouterMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for RouterMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RouterMemory")
    }
}

impl RouterState {
    pub(crate) fn new(config: &RetryConfig, now: Instant) -> Self {
        let (picker, config) = (Picker::new(), Arc::new(config.clone()));
        Self {
            strategies: picker.strategies(),
            picker: Arc::new(Mutex::new(picker)),
            custom: None,
            outliers: Arc::new(EjectFailed::new(config.ejection)),
            retry: Arc::clone(&config) as _,
            has_own_outliers: false,
            has_own_retry: false,
            budget: Arc::new(Mutex::new(RetryBudget::new(config.budget, now))),
            config,
            policies: Arc::default(),
        }
    }

    /// Returns a state with the same rules that shares the counts and the round-robin position, and
    /// has its own ejections and budget.
    pub(crate) fn apart(&self, now: Instant) -> Self {
        self.with_retry(&self.config, now)
    }

    /// Returns a state with other retry rules that shares the counts and the round-robin position.
    pub(crate) fn with_retry(&self, config: &RetryConfig, now: Instant) -> Self {
        let rules = Self::new(config, now);
        let outliers = if self.has_own_outliers { &self.outliers } else { &rules.outliers };
        let retry = if self.has_own_retry { &self.retry } else { &rules.retry };
        let (outliers, retry) = (Arc::clone(outliers), Arc::clone(retry));
        let Self { budget, config, .. } = rules;
        Self { outliers, retry, budget, config, ..self.clone() }
    }

    pub(crate) fn with_load_balancer(&self, custom: Arc<dyn LoadBalancer>) -> Self {
        Self { custom: Some(custom), ..self.clone() }
    }

    pub(crate) fn without_load_balancer(&self) -> Self {
        Self { custom: None, ..self.clone() }
    }

    pub(crate) fn with_outlier_policy(&self, outliers: Arc<dyn OutlierPolicy>) -> Self {
        Self { outliers, has_own_outliers: true, ..self.clone() }
    }

    pub(crate) fn with_retry_policy(&self, retry: Arc<dyn RetryPolicy>) -> Self {
        Self { retry, has_own_retry: true, ..self.clone() }
    }

    /// What follows the policy of the endpoint, for all routers that share the counts. `None` if
    /// the discovery of `client` holds no policies.
    pub(crate) fn policies(&self, client: &Client) -> Option<Arc<Policies>> {
        if let Some(policies) = self.policies.get() {
            return Some(Arc::clone(policies));
        }
        let made = client.policies()?;
        Some(Arc::clone(self.policies.get_or_init(|| made)))
    }

    /// The configured rules. A policy of the program may decide in place of some of them.
    pub(crate) fn config(&self) -> &RetryConfig {
        &self.config
    }

    pub(crate) fn custom(&self) -> Option<&dyn LoadBalancer> {
        self.custom.as_deref()
    }

    pub(crate) fn strategies(&self) -> &Strategies {
        &self.strategies
    }

    pub(crate) fn update_weights(&self, weights: HashMap<InstanceId, f64>) {
        if let Some(custom) = &self.custom {
            custom.update_weights(weights.clone());
        }
        self.strategies.update_weights(weights);
    }

    pub(crate) fn on_request(&self, now: Instant) {
        self.budget.lock().on_request(now);
    }

    /// Chooses the next instance: one that was not tried yet, that is not ejected, and that is
    /// preferred. If there is none, it drops first the preference, then the ejections. It chooses
    /// and counts under one lock, so that concurrent requests see each other.
    pub(crate) fn choose(
        &self,
        strategy: &dyn LoadBalancer,
        members: &Members,
        attempts: &Attempts,
        headers: &Headers,
        preferred: Option<&dyn Fn(&Instance) -> bool>,
        now: Instant,
    ) -> Option<Chosen> {
        let picker = &mut *self.picker.lock();
        let mut pick = |skip: &dyn Fn(&Instance) -> bool| {
            picker.pick_by(strategy, &members.instances, headers, skip)
        };
        let asked = |one: &Instance| attempts.was_asked(one.id);
        let out = |one: &Instance| asked(one) || self.outliers.is_ejected(one, now);
        let (choice, in_spite) = if strategy.named().is_some() {
            // Who was named is asked, ejected or not.
            (pick(&asked)?, true)
        } else {
            let near = preferred.and_then(|near| pick(&|one| out(one) || !near(one)));
            match near.or_else(|| pick(&out)) {
                Some(choice) => (choice, false),
                None => (pick(&asked)?, true),
            }
        };
        let permit = picker.admit(&choice);
        Some(Chosen { choice, permit, in_spite })
    }

    /// True if the instance is ejected now.
    pub(crate) fn is_ejected(&self, instance: &Instance, now: Instant) -> bool {
        self.outliers.is_ejected(instance, now)
    }

    pub(crate) fn in_flight(&self, id: InstanceId) -> u32 {
        self.picker.lock().in_flight(id)
    }

    pub(crate) fn served(&self, instance: &Instance, now: Instant) {
        self.outliers.record(instance, AttemptOutcome::Served, now);
    }

    pub(crate) fn failed(&self, instance: &Instance, error: &Error, now: Instant) {
        let Some(outcome) = outcome_of(error) else { return };
        self.outliers.record(instance, outcome, now);
        if let Some(custom) = &self.custom
            && self.outliers.is_ejected(instance, now)
        {
            custom.remove_unhealthy_node(instance.id);
        }
    }

    pub(crate) fn classify(&self, report: &AttemptReport<'_>) -> Verdict {
        self.retry.classify(report)
    }

    pub(crate) fn try_resend(&self, now: Instant) -> bool {
        self.budget.lock().try_resend(now)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use sinew_plane::Code;

    use super::*;
    use crate::{Direct, RandomChoice, RoundRobin};

    fn members(ids: &[u64]) -> Members {
        let make = |id: &u64| {
            Arc::new(Instance::new("a/b/c".parse().unwrap(), InstanceId(*id), Vec::new()))
        };
        Members { instances: ids.iter().map(make).collect(), ..Members::default() }
    }

    fn choose(
        state: &RouterState,
        strategy: &dyn LoadBalancer,
        members: &Members,
        attempts: &Attempts,
        now: Instant,
    ) -> Option<Chosen> {
        state.choose(strategy, members, attempts, &Headers::new(), None, now)
    }

    #[test]
    fn the_ejected_come_last_but_they_come() {
        let now = Instant::now();
        let state = RouterState::new(&RetryConfig::default(), now);
        let members = members(&[1, 2]);
        let gone = Error::new(Code::ConnectFailed, "refused");
        let none = Attempts::default();
        let turns = RoundRobin::new();
        state.failed(&members.instances[0], &gone, now);
        for _ in 0..10 {
            assert_eq!(choose(&state, &turns, &members, &none, now).unwrap().choice.id.0, 2);
        }
        let mut asked = Attempts::default();
        asked.failed(InstanceId(2), gone.clone());
        let last = choose(&state, &turns, &members, &asked, now).unwrap();
        assert_eq!((last.choice.id.0, last.in_spite), (1, true));
        state.failed(&members.instances[1], &gone, now);
        assert!(choose(&state, &turns, &members, &none, now).is_some(), "all are asked then");
        let direct = Direct(InstanceId(1));
        let named = choose(&state, &direct, &members, &none, now).unwrap();
        assert_eq!((named.choice.id.0, named.in_spite), (1, true));
        let later = now + Duration::from_secs(1);
        let ids: Vec<_> = (0..2)
            .map(|_| choose(&state, &turns, &members, &none, later).unwrap().choice.id.0)
            .collect();
        assert_ne!(ids[0], ids[1], "both serve again: {ids:?}");
    }

    #[test]
    fn the_preferred_are_asked_first() {
        let now = Instant::now();
        let state = RouterState::new(&RetryConfig::default(), now);
        let members = members(&[1, 2, 3]);
        let near = |one: &Instance| one.id.0 == 3;
        let mut attempts = Attempts::default();
        let (lot, headers) = (RandomChoice::new(), Headers::new());
        let choose = |attempts: &Attempts| {
            let chosen = state.choose(&lot, &members, attempts, &headers, Some(&near), now);
            chosen.unwrap().choice.id.0
        };
        assert!((0..20).all(|_| choose(&attempts) == 3));
        attempts.failed(InstanceId(3), Error::draining(""));
        assert_ne!(choose(&attempts), 3);
    }
}
