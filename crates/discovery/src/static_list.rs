//! Discovery from fixed addresses, of a command line or a configuration.

use std::{collections::BTreeSet, sync::Arc};

use sinew_plane::{Address, BoxFuture, EndpointName, Incarnation, InstanceId};
use tokio::sync::watch;

use crate::{
    Discovery, DiscoveryError, Instance, Interest, MAX_INSTANCES, Registration, Snapshot, View,
    fingerprint::fingerprint,
};

const BACKEND: &str = "static";

/// Discovery from fixed addresses. Its views never lose an instance, and it takes no registrations.
///
/// Each address is one instance. Its id and incarnation are derived from the text of the address,
/// and are the same in every process. The worker at the address has another id, which is not known
/// here, so these instances have [`any_id`](Instance::any_id) set.
///
/// ```
/// use sinew_discovery::{Discovery, StaticDiscovery};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let seeds = StaticDiscovery::addresses(["tcp://127.0.0.1:9001", "tcp://127.0.0.1:9002"])?;
/// let _wanted = seeds.want(&"text/words/split".parse()?);
/// assert_eq!(seeds.watch().await?.snapshot().len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StaticDiscovery {
    /// Addresses that serve every endpoint anyone asks for.
    serve_all: Vec<Address>,
    published: watch::Sender<Snapshot>,
}

impl StaticDiscovery {
    /// Makes a discovery with one instance of `endpoint` at each address. Add further endpoints
    /// with [`and`](Self::and).
    pub fn new(endpoint: EndpointName, addresses: impl IntoIterator<Item = Address>) -> Self {
        Self { serve_all: Vec::new(), published: watch::Sender::default() }.and(endpoint, addresses)
    }

    /// Adds one instance of `endpoint` at each of these addresses.
    #[must_use]
    pub fn and(self, endpoint: EndpointName, addresses: impl IntoIterator<Item = Address>) -> Self {
        self.add(&endpoint, addresses);
        self
    }

    /// Makes a discovery of addresses that serve any endpoint. Views show instances of an endpoint
    /// once it was [wanted](Discovery::want).
    ///
    /// # Errors
    /// [`DiscoveryError::Invalid`] when there is none, or one of them is not an address.
    pub fn addresses<I>(addresses: I) -> Result<Self, DiscoveryError>
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        let parse = |text: I::Item| {
            let parsed = text.as_ref().trim().parse::<Address>();
            parsed.map_err(|error| DiscoveryError::Invalid { reason: error.to_string() })
        };
        let serve_all = addresses.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if serve_all.is_empty() {
            let reason = "static discovery needs at least one address: static:tcp://HOST:PORT";
            return Err(DiscoveryError::Invalid { reason: reason.to_owned() });
        }
        Ok(Self { serve_all, published: watch::Sender::default() })
    }

    fn add(&self, endpoint: &EndpointName, addresses: impl IntoIterator<Item = Address>) {
        let seeds = addresses.into_iter().map(|address| Arc::new(seed(endpoint.clone(), address)));
        let seeds: Vec<_> = seeds.collect();
        self.published.send_if_modified(|snapshot| {
            let known: BTreeSet<_> = snapshot.iter().map(|one| one.key()).collect();
            let room = MAX_INSTANCES.saturating_sub(snapshot.len());
            let fresh = seeds.iter().filter(|one| !known.contains(&one.key())).take(room);
            let fresh: Vec<_> = fresh.cloned().collect();
            let is_more = !fresh.is_empty();
            if is_more {
                let all = snapshot.iter().cloned().chain(fresh);
                *snapshot = Snapshot::new(snapshot.revision() + 1, all);
            }
            is_more
        });
    }
}

fn seed(endpoint: EndpointName, address: Address) -> Instance {
    let number = fingerprint(&[address.as_str()]);
    let mut instance = Instance::new(endpoint, InstanceId(number), vec![address]);
    instance.incarnation = Incarnation(number);
    instance.any_id = true;
    instance
}

impl Discovery for StaticDiscovery {
    fn name(&self) -> &'static str {
        BACKEND
    }

    fn register(&self, _: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>> {
        Box::pin(async { Err(DiscoveryError::ReadOnly { backend: BACKEND }) })
    }

    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>> {
        Box::pin(async move { Ok(View::new(self.published.subscribe())) })
    }

    /// For good: the seeds of an endpoint cost nothing but their memory.
    fn want(&self, endpoint: &EndpointName) -> Interest {
        self.add(endpoint, self.serve_all.iter().cloned());
        Interest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> EndpointName {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn plain_addresses_serve_whatever_is_wanted() {
        let seeds = StaticDiscovery::addresses(["tcp://h:1", " tcp://h:2"]).unwrap();
        let mut view = seeds.watch().await.unwrap();
        assert!(view.snapshot().is_empty());
        for endpoint in ["a/b/c", "a/b/d", "a/b/c"] {
            drop(seeds.want(&name(endpoint)));
        }
        let snapshot = view.snapshot();
        assert_eq!((snapshot.len(), snapshot.revision()), (4, 2));
        let ids: BTreeSet<_> = snapshot.of(&name("a/b/c")).map(|one| one.id).collect();
        assert_eq!(ids, snapshot.of(&name("a/b/d")).map(|one| one.id).collect());
        assert_eq!(ids.len(), 2);
        assert!(snapshot.iter().all(|one| one.any_id && one.addresses.len() == 1));
        assert!(view.has_instance_of(&name("a/b/d")).await);
    }

    #[tokio::test]
    async fn entries_name_their_endpoints_and_refuse_registrations() {
        let at = |text: &str| [text.parse::<Address>().unwrap()];
        let seeds = StaticDiscovery::new(name("a/b/c"), at("tcp://h:1"))
            .and(name("x/y/z"), at("tcp://h:2"));
        let _wanted = seeds.want(&name("q/q/q"));
        let snapshot = seeds.watch().await.unwrap().snapshot();
        assert_eq!(snapshot.len(), 2);
        let mine = snapshot.iter().next().unwrap().as_ref().clone();
        let error = seeds.register(mine).await.unwrap_err();
        assert!(matches!(error, DiscoveryError::ReadOnly { backend: "static" }));
    }

    #[test]
    fn bad_and_missing_addresses_are_named() {
        let error = StaticDiscovery::addresses(["tcp://h:1", "h:2"]).unwrap_err().to_string();
        assert!(error.contains("h:2"), "{error}");
        let error = StaticDiscovery::addresses::<[&str; 0]>([]).unwrap_err().to_string();
        assert!(error.contains("at least one"), "{error}");
    }

    #[tokio::test]
    async fn wanting_without_end_does_not_grow_without_end() {
        let seeds = StaticDiscovery::addresses(["tcp://h:1"]).unwrap();
        let many = (0..MAX_INSTANCES as u64 + 9)
            .map(|port| Address::new("tcp", &format!("h:{port}")).unwrap());
        let seeds = seeds.and(name("a/b/c"), many);
        let _wanted = seeds.want(&name("a/b/d"));
        assert_eq!(seeds.watch().await.unwrap().snapshot().len(), MAX_INSTANCES);
    }
}
