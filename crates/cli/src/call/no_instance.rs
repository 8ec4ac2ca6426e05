//! What is said when nobody can be called.

use std::{sync::Arc, time::Duration};

use sinew::{Client, Instance, Runtime};
use sinew_telemetry::first_few;

use super::CallArgs;
use crate::{
    exit::{Exit, Failure},
    settings::Settings,
    text_layout::seconds,
};

/// A call that found no instance.
pub(super) struct NoInstance<'a> {
    pub(super) settings: &'a Settings,
    pub(super) args: &'a CallArgs,
    pub(super) runtime: &'a Runtime,
    pub(super) client: &'a Client,
}

impl NoInstance<'_> {
    /// Who is there all the same and why that does not help, or else where nobody is and what
    /// the discovery says about it.
    ///
    /// # Errors
    /// The settings cannot be read any more.
    pub(super) fn failure(&self, waited: Duration) -> Result<Failure, Failure> {
        let CallArgs { name, wait, instance, .. } = self.args;
        let discovery = self.settings.config()?.discovery;
        let place = discovery.to_string();
        let waited = match wait.is_zero() {
            true => "looked once".to_owned(),
            false => format!("waited {}", seconds(waited)),
        };
        if let Some(failure) = self.out_of_reach(&place, &waited) {
            return Ok(failure);
        }
        let known = self.client.instance_ids();
        let failure = |which: &str, why: &str| {
            let message =
                format!("No instances found for {name}{which} in {place} ({waited}){why}");
            Failure::new(Exit::NoInstances, message)
        };
        if let Some(id) = instance
            && !known.is_empty()
        {
            let shown = first_few(known, ", ");
            return Ok(failure(&format!(" with id {id}"), "")
                .hint(format!("there are {shown}: ask one of these")));
        }
        let trouble = self.runtime.discovery_trouble();
        let why = trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
        let start = self.settings.how_to_serve(&discovery, name.as_str());
        let sinew = self.settings.same_place();
        let hint = format!("start a worker{start}; see who is there with: {sinew} ls");
        Ok(failure("", &why).hint(hint))
    }

    /// The failure of a call to instances that are there and cannot be reached from here.
    fn out_of_reach(&self, place: &str, waited: &str) -> Option<Failure> {
        let CallArgs { name, instance, .. } = self.args;
        let named = |one: &Arc<Instance>| instance.is_none_or(|id| id == one.id);
        let there: Vec<_> = self.client.unreachable().into_iter().filter(named).collect();
        if there.is_empty() {
            return None;
        }
        let places = |one: &Arc<Instance>| {
            let places: Vec<_> = one.unreachable.iter().map(ToString::to_string).collect();
            format!("{} at {}", one.id, places.join(" and "))
        };
        let there = first_few(there.iter().map(places), "; ");
        let message = format!(
            "{name} is announced in {place} by instances that cannot be reached from here \
             ({waited}): {there}"
        );
        Some(Failure::new(Exit::Refused, message).hint(
            "nothing ran: let the worker listen at an address of its network with sinew serve \
             --listen IP:PORT --insecure, or tell others a better one with --advertise HOST:PORT",
        ))
    }
}
