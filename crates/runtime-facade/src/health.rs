//! The health of a process: which endpoints take requests, and which listeners receive them.

use std::{collections::BTreeMap, sync::Arc};

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
        let listeners = self
            .listeners
            .iter()
            .map(|(name, up)| format!(r#"{{"listener":"{}","up":{up}}}"#, name.escape_default()));
        format!(
            r#"{{"status":"{status}","endpoints":[{}],"listeners":[{}]}}"#,
            endpoints.collect::<Vec<_>>().join(","),
            listeners.collect::<Vec<_>>().join(",")
        )
    }
}

/// Whether each instance of the process takes requests. The ingress reports every change here.
#[derive(Debug, Default)]
pub(crate) struct ReadyInstances(Mutex<BTreeMap<(EndpointName, InstanceId), bool>>);

impl ReadyInstances {
    pub(crate) fn instances(&self) -> Vec<(EndpointName, InstanceId, bool)> {
        let all = self.0.lock();
        all.iter().map(|((name, id), ready)| (name.clone(), *id, *ready)).collect()
    }
}

/// Removes an instance from the reports when it is dropped. It has to be dropped after the part
/// that reports.
pub(crate) struct HealthEntry {
    reports: Arc<ReadyInstances>,
    endpoint: EndpointName,
    instance: InstanceId,
}

impl HealthEntry {
    pub(crate) fn new(
        reports: &Arc<ReadyInstances>,
        endpoint: &EndpointName,
        instance: InstanceId,
    ) -> Self {
        Self { reports: Arc::clone(reports), endpoint: endpoint.clone(), instance }
    }
}

impl Drop for HealthEntry {
    fn drop(&mut self) {
        self.reports.0.lock().remove(&(self.endpoint.clone(), self.instance));
    }
}

impl SystemHealth for ReadyInstances {
    fn set_ready(&self, endpoint: &EndpointName, instance: InstanceId, ready: bool) {
        self.0.lock().insert((endpoint.clone(), instance), ready);
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
        reports.set_ready(&name, InstanceId(0x1f), true);
        assert!(health(true, false).is_ready());
        assert_eq!(
            health(false, false).to_json(),
            r#"{"status":"not ready","endpoints":[{"endpoint":"a/b/c","instance":"1f","ready":true}],"listeners":[{"listener":"nats","up":false}]}"#
        );
        assert!(health(true, true).to_json().starts_with(r#"{"status":"draining""#));
        reports.set_ready(&name, InstanceId(0x1f), false);
        assert!(!health(true, false).is_ready());
        drop(HealthEntry::new(&reports, &name, InstanceId(0x1f)));
        assert!(reports.instances().is_empty());
    }
}
