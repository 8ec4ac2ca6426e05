//! What a process says of itself: which endpoints take requests, which listeners bring them.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use sinew_ingress::SystemHealth;
use sinew_plane::{EndpointName, InstanceId};

/// The state of a process, as [`Runtime::health`](crate::Runtime::health) finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The instances that are served, and whether each takes requests: one that is drained does
    /// not. In the order of their names.
    pub endpoints: Vec<(EndpointName, InstanceId, bool)>,
    /// The listeners that were started, and whether requests can arrive there now. One whose
    /// connection to a broker is broken is not up.
    pub listeners: Vec<(String, bool)>,
    /// The runtime shuts down.
    pub draining: bool,
}

impl Health {
    /// True when something is served, all of it takes requests, and every listener is up.
    pub fn is_ready(&self) -> bool {
        !self.draining
            && !self.endpoints.is_empty()
            && self.endpoints.iter().all(|(_, _, ready)| *ready)
            && self.listeners.iter().all(|(_, up)| *up)
    }

    /// The same as JSON, as `/health` of the command shows it.
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

/// Every instance that the ingress of a process serves reports here.
#[derive(Debug, Default)]
pub(crate) struct ReadyInstances(Mutex<BTreeMap<(EndpointName, InstanceId), bool>>);

impl ReadyInstances {
    pub(crate) fn instances(&self) -> Vec<(EndpointName, InstanceId, bool)> {
        let all = self.0.lock();
        all.iter().map(|((name, id), ready)| (name.clone(), *id, *ready)).collect()
    }
}

/// Takes an instance out of the reports once it is served no more. It has to be dropped after
/// what reports.
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
