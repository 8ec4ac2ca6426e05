//! How near an instance is, and which transports can reach it at that distance.

use sinew_discovery::Instance;
use sinew_plane::{Address, LatencyClass, ProcessId};

/// The identity of this process, in the terms that discovery uses for instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalProcess {
    /// The machine, as [`Instance::host`].
    pub host: Option<String>,
    /// The process, as [`Instance::process`].
    pub process: Option<ProcessId>,
    /// The addresses at which this process reaches its own endpoints. Other processes cannot use
    /// them, so they are not announced.
    pub addresses: Vec<Address>,
}

/// How near an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proximity {
    /// The instance is in this process.
    Process,
    /// The instance is in another process on this host.
    Host,
    /// The instance is on another host.
    Remote,
    /// The distance is not known, so every transport is tried.
    Unknown,
}

impl Proximity {
    /// How near `instance` is to `here`. If one of them does not name its host or process, nothing
    /// is assumed about it.
    pub fn between(here: &LocalProcess, instance: &Instance) -> Self {
        let same_process = here.process.zip(instance.process).map(|(ours, theirs)| ours == theirs);
        let same_host =
            here.host.as_ref().zip(instance.host.as_ref()).map(|(ours, theirs)| ours == theirs);
        match (same_process, same_host) {
            (Some(true), _) => Self::Process,
            (_, Some(false)) => Self::Remote,
            (Some(false), Some(true)) => Self::Host,
            _ => Self::Unknown,
        }
    }

    /// True if a transport of that latency class can reach this far.
    pub fn is_within(self, class: LatencyClass) -> bool {
        match class {
            LatencyClass::Process => matches!(self, Self::Process | Self::Unknown),
            LatencyClass::Host => self != Self::Remote,
            LatencyClass::Network | LatencyClass::Brokered => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::InstanceId;

    use super::*;

    #[test]
    fn only_what_is_known_rules_a_class_out() {
        let here = LocalProcess {
            host: Some("h1".into()),
            process: Some(ProcessId(1)),
            addresses: Vec::new(),
        };
        let mut instance = Instance::new("a/b/c".parse().unwrap(), InstanceId(1), Vec::new());
        for (host, process, expected) in [
            (Some("h1"), Some(1), Proximity::Process),
            (Some("h1"), Some(2), Proximity::Host),
            (Some("h2"), Some(2), Proximity::Remote),
            (Some("h2"), None, Proximity::Remote),
            (Some("h1"), None, Proximity::Unknown),
            (None, Some(2), Proximity::Unknown),
            (None, None, Proximity::Unknown),
        ] {
            instance.host = host.map(str::to_owned);
            instance.process = process.map(ProcessId);
            assert_eq!(Proximity::between(&here, &instance), expected, "{host:?} {process:?}");
        }
        assert!(!Proximity::Host.is_within(LatencyClass::Process));
        assert!(!Proximity::Remote.is_within(LatencyClass::Host));
        assert!(Proximity::Unknown.is_within(LatencyClass::Process));
        assert!(Proximity::Remote.is_within(LatencyClass::Network));
    }
}
