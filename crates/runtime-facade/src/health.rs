//! The health of a process: which endpoints take requests, and which listeners receive them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use sinew_ingress::SystemHealth;
use sinew_plane::{EndpointName, InstanceId};

/// The health of a process, as [`Runtime::health`](crate::Runtime::health) returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The instances that are served, in the order of their names, and whether each takes requests.
    /// A drained instance takes none.
    pub endpoints: Vec<(EndpointName, InstanceId, bool)>,
    /// The listeners that were started, and whether requests can arrive there now. A listener that
    /// has lost its connection to a broker is down.
    pub listeners: Vec<(String, bool)>,
    /// The runtime shuts down.
    pub draining: bool,
}

impl Health {
    /// True if at least one instance is served, all of them take requests, and every listener is
    /// up.
    pub fn is_ready(&self) -> bool {
        !self.draining
            && !self.endpoints.is_empty()
            && self.endpoints.iter().all(|(_, _, ready)| *ready)
            && self.listeners.iter().all(|(_, up)| *up)
    }

    /// The health as JSON, as `/health` of the `sinew` command shows it.
    pub fn to_json(&self) -> String {
        let status = match (self.is_ready(), self.draining) {
            (true, _) => "ready",
            (_, true) => "draining",
            _ => "not ready",
        };
        // Names hold nothing that JSON would have to escape; those of listeners may.
        let endpoints = self.endpoints.iter().map(|(name, id, ready)| {
            format!(r#"{{"endpoint":"{name}","instance":"{id}","ready":{ready}}}"#)
        });
        let listeners = self.listeners.iter().map(|(name, up)| {
            let name = serde_json::Value::from(name.as_str());
            format!(r#"{{"listener":{name},"up":{up}}}"#)
        });
        format!(
            r#"{{"status":"{status}","endpoints":[{}],"listeners":[{}]}}"#,
            endpoints.collect::<Vec<_>>().join(","),
            listeners.collect::<Vec<_>>().join(",")
        )
    }
}

/// Whether each instance of the process takes requests.
#[derive(Debug, Default)]
pub(crate) struct ReadyInstances {
    /// The last number tells those apart that are served under one name and id.
    all: Mutex<BTreeMap<(EndpointName, InstanceId, u64), bool>>,
    next: AtomicU64,
}

impl ReadyInstances {
    /// Of those under one name and id the latest, which gets the requests.
    pub(crate) fn instances(&self) -> Vec<(EndpointName, InstanceId, bool)> {
        let mut instances: Vec<(EndpointName, InstanceId, bool)> = Vec::new();
        for ((name, id, _), ready) in &*self.all.lock() {
            match instances.last_mut() {
                Some((before, of, state)) if (&*before, *of) == (name, *id) => *state = *ready,
                _ => instances.push((name.clone(), *id, *ready)),
            }
        }
        instances
    }
}

/// Where the ingress reports the state of one instance. The instance is in the list from its first
/// report of being ready until this is dropped.
pub(crate) struct HealthEntry {
    reports: Arc<ReadyInstances>,
    key: (EndpointName, InstanceId, u64),
}

impl HealthEntry {
    pub(crate) fn new(
        reports: &Arc<ReadyInstances>,
        endpoint: &EndpointName,
        instance: InstanceId,
    ) -> Self {
        let number = reports.next.fetch_add(1, Ordering::Relaxed);
        Self { reports: Arc::clone(reports), key: (endpoint.clone(), instance, number) }
    }
}

impl SystemHealth for HealthEntry {
    fn set_ready(&self, _: &EndpointName, _: InstanceId, ready: bool) {
        let mut all = self.reports.all.lock();
        match all.get_mut(&self.key) {
            Some(state) => *state = ready,
            None if ready => drop(all.insert(self.key.clone(), true)),
            None => {}
        }
    }
}

impl Drop for HealthEntry {
    fn drop(&mut self) {
        self.reports.all.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_all_that_it_serves_and_all_listeners_are() {
        let reports = Arc::new(ReadyInstances::default());
        let name: EndpointName = "a/b/c".parse().unwrap();
        let health = |up, draining| Health {
            endpoints: reports.instances(),
            listeners: vec![("nats".to_owned(), up)],
            draining,
        };
        assert!(!health(true, false).is_ready(), "nothing is served");
        let entry = HealthEntry::new(&reports, &name, InstanceId(0x1f));
        entry.set_ready(&name, InstanceId(0x1f), false);
        assert!(reports.instances().is_empty(), "it was never ready");
        entry.set_ready(&name, InstanceId(0x1f), true);
        assert!(health(true, false).is_ready());
        assert_eq!(
            health(false, false).to_json(),
            r#"{"status":"not ready","endpoints":[{"endpoint":"a/b/c","instance":"1f","ready":true}],"listeners":[{"listener":"nats","up":false}]}"#
        );
        assert!(health(true, true).to_json().starts_with(r#"{"status":"draining""#));
        entry.set_ready(&name, InstanceId(0x1f), false);
        assert!(!health(true, false).is_ready());
        drop(entry);
        assert!(reports.instances().is_empty());
    }

    #[test]
    fn an_instance_that_was_replaced_says_nothing_of_the_one_in_its_place() {
        let reports = Arc::new(ReadyInstances::default());
        let name: EndpointName = "a/b/c".parse().unwrap();
        let entry = || HealthEntry::new(&reports, &name, InstanceId(7));
        let (old, new) = (entry(), entry());
        for (one, ready) in [(&old, true), (&new, true), (&old, false)] {
            one.set_ready(&name, InstanceId(7), ready);
        }
        let all = [(name.clone(), InstanceId(7), true)];
        assert_eq!(reports.instances(), all);
        drop(old);
        assert_eq!(reports.instances(), all);
        drop(new);
        assert!(reports.instances().is_empty());
    }

    #[test]
    fn the_report_is_json_whatever_a_listener_is_called() {
        let listeners = vec![("a \"b\" \\ \u{e9}\n\u{1}".to_owned(), true)];
        let health = Health { endpoints: Vec::new(), listeners, draining: false };
        let json: serde_json::Value = serde_json::from_str(&health.to_json()).unwrap();
        assert_eq!(json["listeners"][0]["listener"], "a \"b\" \\ \u{e9}\n\u{1}");
    }
}
