//! What is said over a control endpoint.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sinew_ingress::Drained;
use sinew_plane::{EndpointName, InstanceId};

/// What a process is and what it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessStatus {
    /// Its process id.
    pub pid: u32,
    /// The version of Sinew that it was built with.
    pub version: String,
    /// What it serves.
    pub endpoints: Vec<EndpointStatus>,
}

/// An endpoint that a process serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// The name of the endpoint.
    #[serde(with = "name")]
    pub endpoint: EndpointName,
    /// The instance.
    #[serde(with = "hex")]
    pub instance: InstanceId,
    /// Its requests in flight.
    pub in_flight: usize,
    /// True if it refuses new requests.
    pub draining: bool,
}

/// Which endpoints of a process to drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DrainRequest {
    /// All instances of this endpoint.
    Endpoint(#[serde(with = "name")] EndpointName),
    /// This instance.
    Instance(#[serde(with = "hex")] InstanceId),
}

impl DrainRequest {
    /// True if this instance of this endpoint is to be drained.
    pub fn includes(&self, endpoint: &EndpointName, instance: InstanceId) -> bool {
        match self {
            Self::Endpoint(name) => name == endpoint,
            Self::Instance(id) => *id == instance,
        }
    }
}

/// How far a drain has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DrainProgress {
    /// The drain is under way.
    Draining {
        /// Requests that are still in flight.
        in_flight: usize,
        /// Longest time until the rest is cut.
        #[serde(with = "seconds")]
        grace: Duration,
    },
    /// One instance is drained.
    Drained {
        /// The endpoint.
        #[serde(with = "name")]
        endpoint: EndpointName,
        /// The instance.
        #[serde(with = "hex")]
        instance: InstanceId,
        /// Requests that ended by themselves.
        finished: usize,
        /// Requests that their routers continue at other instances.
        handed_over: usize,
        /// Requests that were cut.
        cut: usize,
    },
}

impl DrainProgress {
    pub(super) fn drained(endpoint: EndpointName, instance: InstanceId, drained: Drained) -> Self {
        Self::Drained {
            endpoint,
            instance,
            finished: drained.finished_streams,
            handed_over: drained.handed_over_streams,
            cut: drained.cut_streams,
        }
    }
}

mod name {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use sinew_plane::EndpointName;

    pub(super) fn serialize<S: Serializer>(name: &EndpointName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<EndpointName, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use sinew_plane::InstanceId;

    pub(super) fn serialize<S: Serializer>(id: &InstanceId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<InstanceId, D::Error> {
        let text = String::deserialize(from)?;
        InstanceId::from_hex(&text).ok_or_else(|| D::Error::custom("not an instance id"))
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(D::Error::custom)
    }
}
