//! Over which transport the streams of an endpoint are to go, as an operator has said.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sinew_plane::{EndpointName, TransportId, clock};
use tokio::sync::watch;

use crate::DiscoveryError;

/// Longest author and name of a transport, in bytes.
const MAX_TEXT_BYTES: usize = 128;

/// Over which transport the streams of one endpoint are to go. It stands in discovery, and the
/// routers of the endpoint follow it: new streams first, then those that run, one share after
/// another. A discovery holds at most one for each endpoint.
///
/// ```
/// use std::time::Duration;
/// use sinew_discovery::{Discovery, MemoryDiscovery, PlanePolicy};
/// use sinew_plane::TransportId;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let discovery = MemoryDiscovery::new();
/// let policy = PlanePolicy::new("text/words/split".parse()?, TransportId::from_static("tcp"))
///     .by("ann@build7")
///     .lasting(Duration::from_secs(3600));
/// let stored = discovery.put_policy(policy).await?;
/// let view = discovery.watch_policy(&stored.endpoint)?.ok_or("it holds policies")?;
/// assert_eq!(view.borrow().as_deref(), Some(&stored));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanePolicy {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The transport that its streams are to use.
    pub transport: TransportId,
    /// Which share of the streams, in percent: 1 to 100. By default all.
    pub percent: u8,
    /// Of several policies for an endpoint, the one with the larger version counts.
    /// [`Discovery::put_policy`](crate::Discovery::put_policy) sets it: to the time in milliseconds
    /// since 1970, and above that of the policy that it replaces.
    pub version: u64,
    /// Who has set it, for logs: at most 128 bytes without control characters.
    pub author: String,
    /// When it ends, in milliseconds since 1970. One that has ended is as none.
    pub expires_ms: u64,
    /// When a router goes back to what was before.
    pub roll_back: RollBack,
}

/// How much worse streams may get by a [`PlanePolicy`] before a router goes back to what was
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RollBack {
    /// The share of the streams that end by an error of the transport, in points of a percentage
    /// above what it is elsewhere: 0 to 100. By default 2.
    pub error_percent: u8,
    /// The mean time between items, in percent above what it is elsewhere: 1 to 10,000. By default
    /// 50.
    pub gap_percent: u16,
}

impl Default for RollBack {
    fn default() -> Self {
        Self { error_percent: 2, gap_percent: 50 }
    }
}

/// The policy of one endpoint, as it is now. `None` while there is none. It keeps its last value
/// while the backend cannot be reached, and after its shutdown.
pub type PolicyView = watch::Receiver<Option<Arc<PlanePolicy>>>;

impl PlanePolicy {
    /// Makes a policy for all streams of an endpoint, for one hour, without an author.
    pub fn new(endpoint: EndpointName, transport: TransportId) -> Self {
        let policy = Self {
            endpoint,
            transport,
            percent: 100,
            version: 0,
            author: String::new(),
            expires_ms: 0,
            roll_back: RollBack::default(),
        };
        policy.lasting(Duration::from_secs(3600))
    }

    /// For this share of the streams.
    #[must_use]
    pub fn percent(self, percent: u8) -> Self {
        Self { percent, ..self }
    }

    /// Names who sets it.
    #[must_use]
    pub fn by(self, author: impl Into<String>) -> Self {
        Self { author: author.into(), ..self }
    }

    /// Ends it so long after now.
    #[must_use]
    pub fn lasting(self, time: Duration) -> Self {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { expires_ms: now_ms().saturating_add(time_ms), ..self }
    }

    /// With other margins.
    #[must_use]
    pub fn rolled_back(self, roll_back: RollBack) -> Self {
        Self { roll_back, ..self }
    }

    /// How long it still lasts; `None` once it has ended.
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.expires_ms.checked_sub(now_ms()).filter(|left| *left > 0)?;
        Some(Duration::from_millis(left))
    }

    /// Checks the bounds of all fields.
    ///
    /// # Errors
    /// [`DiscoveryError::Invalid`], which names the field and its bounds.
    pub fn check(&self) -> Result<(), DiscoveryError> {
        let text = |name: &str, text: &str, least: usize| {
            let fits = (least..=MAX_TEXT_BYTES).contains(&text.len());
            (!fits || text.chars().any(char::is_control)).then(|| {
                format!("{name} is {least} to {MAX_TEXT_BYTES} bytes without control characters")
            })
        };
        let RollBack { error_percent, gap_percent } = self.roll_back;
        let within = |is_within: bool, bounds: &str| (!is_within).then(|| bounds.to_owned());
        let fault = within((1..=100).contains(&self.percent), "the share is 1 to 100 %")
            .or_else(|| text("the transport", self.transport.as_str(), 1))
            .or_else(|| text("the author", &self.author, 0))
            .or_else(|| within(error_percent <= 100, "the margin of errors is 0 to 100 points"))
            .or_else(|| {
                let is_within = (1..=10_000).contains(&gap_percent);
                within(is_within, "the margin of the time between items is 1 to 10,000 %")
            });
        match fault {
            Some(fault) => {
                let reason = format!("a policy for {}: {fault}", self.endpoint);
                Err(DiscoveryError::Invalid { reason })
            }
            None => Ok(()),
        }
    }

    /// The same with the version that it gets when it replaces another one.
    pub(crate) fn replacing(self, former: Option<u64>) -> Self {
        let after = former.map_or(0, |version| version.saturating_add(1));
        Self { version: now_ms().max(after), ..self }
    }
}

fn now_ms() -> u64 {
    clock::time_of_day().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> PlanePolicy {
        PlanePolicy::new("a/b/c".parse().unwrap(), TransportId::from_static("unix")).by("ann@x")
    }

    #[test]
    fn each_field_has_bounds_and_the_error_names_it() {
        assert!(policy().check().is_ok());
        let roll_back = |error_percent, gap_percent| RollBack { error_percent, gap_percent };
        let wrong = [
            (policy().percent(0), "share"),
            (policy().percent(101), "share"),
            (policy().by("x".repeat(129)), "author"),
            (policy().by("a\nb"), "author"),
            (PlanePolicy { transport: TransportId::new(""), ..policy() }, "transport"),
            (policy().rolled_back(roll_back(101, 50)), "errors"),
            (policy().rolled_back(roll_back(2, 0)), "between items"),
        ];
        for (policy, field) in wrong {
            let error = policy.check().unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("a/b/c"), "{error}");
        }
    }

    #[test]
    fn a_policy_ends_when_its_time_is_over() {
        let left = policy().lasting(Duration::from_secs(60)).remaining().unwrap();
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60));
        assert_eq!(policy().lasting(Duration::ZERO).remaining(), None);
        // More milliseconds than fit into 64 bits.
        let long = policy().lasting(Duration::from_secs(u64::MAX / 500));
        assert_eq!(long.expires_ms, u64::MAX);
    }

    #[test]
    fn a_later_policy_has_a_larger_version_whatever_the_clock_says() {
        let first = policy().replacing(None);
        assert!(first.version > 1_600_000_000_000);
        assert_eq!(policy().replacing(Some(u64::MAX - 1)).version, u64::MAX);
    }
}
