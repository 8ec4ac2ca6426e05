//! Limits and addresses of a listener.

use std::net::SocketAddr;

use sinew_plane::{BindPolicy, Budget, ConfigError};

use crate::{
    Admission, Advertised, connection_limit, descriptors,
    interface::{advertised_address, interface_addresses},
};

/// Memory of a connection without open streams, in bytes: its tables and tasks, its place at the
/// listener, and a small output buffer.
pub const CONNECTION_COST_BYTES: usize = 8 << 10;

/// Settings of a listener. Start from [`ListenConfig::default`].
#[derive(Debug, Clone)]
pub struct ListenConfig {
    /// Connections that wait to be accepted, so that a burst of callers is not refused; the kernel
    /// may allow fewer.
    pub backlog: u32,
    /// Most connections of a server at once; fewer if the process may not open so many files
    /// (`RLIMIT_NOFILE`, of which a quarter is left for other uses). For a further connection, the
    /// one that has been idle for longest is closed; if none is idle, the new one is.
    pub max_connections: usize,
    /// Most connections from one address at once; all Unix sockets count as one address. `None`
    /// means half of all.
    pub max_connections_per_peer: Option<usize>,
    /// Further files that this process opens, for example for programs that it runs. Connections
    /// leave that many descriptors free, but at most half.
    pub reserved_descriptors: usize,
    /// Which addresses a server may bind.
    pub bind_policy: BindPolicy,
    /// The address that a server announces in place of the one that it is bound to: `HOST:PORT`, or
    /// `HOST` with the port that was bound. Parsed as [`Advertised`].
    pub advertise: Option<String>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            backlog: 4_096,
            max_connections: 10_000,
            max_connections_per_peer: None,
            reserved_descriptors: 0,
            bind_policy: BindPolicy::LoopbackOnly,
            advertise: None,
        }
    }
}

impl ListenConfig {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and the rule it breaks.
    pub fn checked(self) -> Result<CheckedListenConfig, ConfigError> {
        ConfigError::check_counts(&[
            ("backlog", self.backlog as usize),
            ("max_connections", self.max_connections),
            ("max_connections_per_peer", self.max_connections_per_peer.unwrap_or(1)),
        ])?;
        let advertised = self.advertise.as_deref().map(str::parse::<Advertised>).transpose();
        let advertised = advertised.map_err(|reason| ConfigError { field: "advertise", reason })?;
        Ok(CheckedListenConfig { listen: self, advertised })
    }
}

/// A [`ListenConfig`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedListenConfig {
    listen: ListenConfig,
    advertised: Option<Advertised>,
}

impl CheckedListenConfig {
    /// Makes the admission of a listener, from the number of files that the process may open now.
    /// Connections without streams may use a quarter of the memory budget.
    pub fn admission(&self, budget: Option<&Budget>) -> Admission {
        let others = self.reserved_descriptors;
        let limit = connection_limit(self.max_connections, others, descriptors());
        let memory = budget.map(|budget| budget.limit() / 4 / CONNECTION_COST_BYTES);
        let limit = memory.map_or(limit, |memory| limit.min(memory));
        Admission::new(limit, self.max_connections_per_peer)
    }

    /// The address that a listener which is bound to `bound` announces: `HOST:PORT`.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        match &self.advertised {
            Some(advertised) => advertised.with_port(bound.port()),
            None => advertised_address(bound, interface_addresses()).to_string(),
        }
    }
}

impl std::ops::Deref for CheckedListenConfig {
    type Target = ListenConfig;

    fn deref(&self) -> &ListenConfig {
        &self.listen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_rule_names_its_field() {
        let base = ListenConfig::default;
        let advertise = |text: &str| Some(text.to_owned());
        for (config, field) in [
            (ListenConfig { backlog: 0, ..base() }, "backlog"),
            (ListenConfig { advertise: advertise("0.0.0.0"), ..base() }, "advertise"),
            (ListenConfig { max_connections: 0, ..base() }, "max_connections"),
            (
                ListenConfig { max_connections_per_peer: Some(0), ..base() },
                "max_connections_per_peer",
            ),
        ] {
            assert_eq!(config.checked().unwrap_err().field, field);
        }
    }

    #[test]
    fn what_is_advertised_has_the_port_that_is_bound_unless_it_names_one() {
        let bound = "127.0.0.1:7000".parse().unwrap();
        for (advertise, dialled) in [
            (None, "127.0.0.1:7000"),
            (Some("worker-7.example"), "worker-7.example:7000"),
            (Some("worker-7.example:9000"), "worker-7.example:9000"),
        ] {
            let advertise = advertise.map(str::to_owned);
            let config = ListenConfig { advertise, ..ListenConfig::default() };
            assert_eq!(config.checked().unwrap().advertised(bound), dialled);
        }
    }
}
