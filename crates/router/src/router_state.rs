//! Everything a router remembers from one request to the next.

use std::time::Instant;

use sinew_discovery::Instance;
use sinew_plane::{
    Error, InstanceId,
    random::{self, Rng},
};

use crate::{
    Choice, Ejections, Permit, Picker, RetryBudget, RetryConfig, RouterMode, client::Members,
    retry::Attempts,
};

/// The rotation, what is in flight where, who is left out, and how much may be sent again. Takes
/// time as an argument.
#[derive(Debug)]
pub(crate) struct RouterState {
    picker: Picker,
    ejections: Ejections,
    budget: RetryBudget,
    random: Rng,
}

/// Who is to be asked, and counts as busy with it from now on.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) choice: Choice,
    pub(crate) permit: Permit,
    /// It is asked in spite of an ejection: it was named, or there was nobody else.
    pub(crate) in_spite: bool,
}

impl RouterState {
    pub(crate) fn new(config: &RetryConfig, now: Instant) -> Self {
        Self {
            picker: Picker::new(),
            ejections: Ejections::new(config.ejection),
            budget: RetryBudget::new(config.budget, now),
            random: random::generator(),
        }
    }

    pub(crate) fn on_request(&mut self, now: Instant) {
        self.budget.on_request(now);
    }

    /// The next instance to ask: one that was not asked yet, that is not ejected, and that is
    /// preferred; without such a one first the preference goes, then the ejections. Chosen and
    /// counted in one, so that requests that choose at the same time see each other.
    pub(crate) fn choose(
        &mut self,
        mode: RouterMode,
        members: &Members,
        attempts: &Attempts,
        preferred: Option<&dyn Fn(&Instance) -> bool>,
        now: Instant,
    ) -> Option<Chosen> {
        let (choice, in_spite) = self.pick(mode, members, attempts, preferred, now)?;
        let permit = self.picker.admit(&choice);
        Some(Chosen { choice, permit, in_spite })
    }

    fn pick(
        &mut self,
        mode: RouterMode,
        members: &Members,
        attempts: &Attempts,
        preferred: Option<&dyn Fn(&Instance) -> bool>,
        now: Instant,
    ) -> Option<(Choice, bool)> {
        let Self { picker, ejections, .. } = self;
        let instances = &members.instances;
        let asked = |one: &Instance| attempts.was_asked(one.id);
        // Who was named is asked, ejected or not.
        if matches!(mode, RouterMode::Direct(_)) {
            return picker.pick(mode, instances, asked).map(|choice| (choice, true));
        }
        let out = |one: &Instance| asked(one) || ejections.is_ejected(one, now);
        let near = preferred
            .and_then(|preferred| picker.pick(mode, instances, |one| out(one) || !preferred(one)));
        if let Some(choice) = near.or_else(|| picker.pick(mode, instances, out)) {
            return Some((choice, false));
        }
        picker.pick(mode, instances, asked).map(|choice| (choice, true))
    }

    /// Whether the instance is left out by now.
    pub(crate) fn is_ejected(&self, instance: &Instance, now: Instant) -> bool {
        self.ejections.is_ejected(instance, now)
    }

    pub(crate) fn in_flight(&self, id: InstanceId) -> u32 {
        self.picker.in_flight(id)
    }

    pub(crate) fn succeeded(&mut self, id: InstanceId) {
        self.ejections.succeeded(id);
    }

    pub(crate) fn failed(&mut self, instance: &Instance, error: &Error, now: Instant) {
        self.ejections.failed(instance, error, now);
    }

    pub(crate) fn try_resend(&mut self, now: Instant) -> bool {
        self.budget.try_resend(now)
    }

    pub(crate) fn random(&mut self) -> &mut Rng {
        &mut self.random
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use sinew_plane::Code;

    use super::*;

    fn members(ids: &[u64]) -> Members {
        let make = |id: &u64| {
            Arc::new(Instance::new("a/b/c".parse().unwrap(), InstanceId(*id), Vec::new()))
        };
        Members { instances: ids.iter().map(make).collect(), ..Members::default() }
    }

    #[test]
    fn the_ejected_come_last_but_they_come() {
        let now = Instant::now();
        let mut state = RouterState::new(&RetryConfig::default(), now);
        let members = members(&[1, 2]);
        let gone = Error::new(Code::ConnectFailed, "refused");
        let none = Attempts::default();
        let mode = RouterMode::RoundRobin;
        state.failed(&members.instances[0], &gone, now);
        for _ in 0..10 {
            assert_eq!(state.choose(mode, &members, &none, None, now).unwrap().choice.id.0, 2);
        }
        let mut asked = Attempts::default();
        asked.failed(InstanceId(2), gone.clone());
        let last = state.choose(mode, &members, &asked, None, now).unwrap();
        assert_eq!((last.choice.id.0, last.in_spite), (1, true));
        state.failed(&members.instances[1], &gone, now);
        assert!(state.choose(mode, &members, &none, None, now).is_some(), "all are asked then");
        let direct = RouterMode::Direct(InstanceId(1));
        let named = state.choose(direct, &members, &none, None, now).unwrap();
        assert_eq!((named.choice.id.0, named.in_spite), (1, true));
        let later = now + Duration::from_secs(1);
        let ids: Vec<_> = (0..2)
            .map(|_| state.choose(mode, &members, &none, None, later).unwrap().choice.id.0)
            .collect();
        assert_ne!(ids[0], ids[1], "both serve again: {ids:?}");
    }

    #[test]
    fn the_preferred_are_asked_first() {
        let now = Instant::now();
        let mut state = RouterState::new(&RetryConfig::default(), now);
        let members = members(&[1, 2, 3]);
        let near = |one: &Instance| one.id.0 == 3;
        let mut attempts = Attempts::default();
        let mut choose = |attempts: &Attempts| {
            let chosen = state.choose(RouterMode::Random, &members, attempts, Some(&near), now);
            chosen.unwrap().choice.id.0
        };
        assert!((0..20).all(|_| choose(&attempts) == 3));
        attempts.failed(InstanceId(3), Error::draining(""));
        assert_ne!(choose(&attempts), 3);
    }
}
