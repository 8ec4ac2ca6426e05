//! DNS queries.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType, rdata::SRV},
    },
};
use tokio::{task::JoinSet, time::timeout};

use super::{
    DnsConfig,
    absence::Absence,
    system::System,
    target::{Target, What},
};
use crate::MAX_ADDRESSES;

/// One question and its repetition; a server that takes longer counts as silent.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// Longest wait for everything that makes up one answer: starting up may wait for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long the absence of a host is believed at most, whatever its zone says, or when it says
/// nothing.
const MISSING_FOR: Duration = Duration::from_secs(5);

/// Most servers that are taken of one answer.
const MAX_SERVERS: usize = 1024;

/// Most targets of services that are taken of one answer: each costs two questions.
const MAX_TARGETS: usize = 256;

/// Targets that are asked for at once: a name server sees twice as many questions, which it
/// answers in far less than their time limit.
const AT_ONCE: usize = 16;

/// One server that DNS names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FoundServer {
    /// The same in every process and every answer.
    pub(super) name: String,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) weight: u32,
}

/// What DNS said.
#[derive(Debug)]
pub(super) struct Answer {
    /// In an order of their own, without doubles.
    pub(super) servers: Vec<FoundServer>,
    /// Why there are none.
    pub(super) absence: Option<Absence>,
    /// Until when it holds; `None` when that was not said.
    pub(super) valid_until: Option<Instant>,
}

/// A question that can be asked again and again.
pub(super) struct Lookup {
    resolver: Resolver,
    what: What,
    /// Who is asked, in words.
    pub(super) asked: String,
    /// Where the servers to ask are named, unless the target names one.
    system: Option<System>,
}

/// The data of the records of one name.
struct Records {
    data: Vec<RData>,
    /// Why there are none.
    absence: Option<Absence>,
    /// Until when that holds; `None` when it was not said.
    until: Option<Instant>,
}

/// Asks for the records of one name. Clones share all they hold.
#[derive(Clone)]
struct Resolver(Arc<TokioResolver>);

impl Lookup {
    /// # Errors
    /// The system's settings cannot be read.
    pub(super) fn new(target: &Target, config: &DnsConfig) -> Result<Self, NetError> {
        let what = target.what.clone();
        let Some(server) = target.server else {
            let mut system = System::new(config);
            let resolver = Resolver::build(system.read()?)?;
            let asked = format!("the servers of {}", system.file().display());
            return Ok(Self { resolver, what, asked, system: Some(system) });
        };
        let at_port = |mut way: ConnectionConfig| {
            way.port = server.port();
            way
        };
        let ways = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
        let config = NameServerConfig::new(server.ip(), true, ways.into());
        let config = ResolverConfig::from_name_servers(vec![config]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let asked = format!("the server {server}");
        Ok(Self { resolver: Resolver::build(builder)?, what, asked, system: None })
    }

    /// Reads the system's settings again if they have changed; true when others are to be asked
    /// from now on. Those that cannot be read leave the former ones in use.
    pub(super) fn follow_system(&mut self) -> bool {
        let Some(system) = self.system.as_mut().filter(|system| system.has_changed()) else {
            return false;
        };
        match system.read().and_then(Resolver::build) {
            Ok(resolver) => {
                tracing::info!(
                    "the system's DNS settings have changed: asking the servers they name"
                );
                self.resolver = resolver;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the system's DNS settings cannot be used: keeping those before");
                false
            }
        }
    }

    /// # Errors
    /// Nobody answered, or not with an answer.
    pub(super) async fn ask(&self) -> Result<Answer, NetError> {
        timeout(ANSWER_LIMIT, self.ask_for_all()).await.unwrap_or(Err(NetError::Timeout))
    }

    async fn ask_for_all(&self) -> Result<Answer, NetError> {
        match &self.what {
            What::Address(address) => {
                let servers = vec![at(*address)];
                Ok(Answer { servers, absence: None, valid_until: None })
            }
            What::Host { name, port } => self.host(name, *port).await,
            What::Service(name) => self.service(name).await,
        }
    }

    async fn host(&self, name: &Name, port: u16) -> Result<Answer, NetError> {
        let Records { data, absence, until } = self.resolver.hosts(name).await?;
        let ips = ips(data).map(|ip| at(SocketAddr::new(ip, port)));
        let mut servers: Vec<_> = ips.take(MAX_SERVERS).collect();
        servers.sort();
        servers.dedup();
        Ok(Answer { servers, absence, valid_until: until })
    }

    /// The servers of the lowest priority number that have an address; the others are there for
    /// the day on which these have none.
    async fn service(&self, name: &Name) -> Result<Answer, NetError> {
        let records = self.resolver.records(name, RecordType::SRV).await?;
        let mut valid_until = records.until;
        let mut absence = records.absence.unwrap_or(Absence::NotOffered);
        for services in by_priority(records.data) {
            let (mut servers, until) = self.targets(services).await?;
            valid_until = earlier(valid_until, until);
            if !servers.is_empty() {
                servers.sort();
                servers.dedup_by(|one, other| one.name == other.name);
                return Ok(Answer { servers, absence: None, valid_until });
            }
            absence = Absence::NoAddresses;
        }
        Ok(Answer { servers: Vec::new(), absence: Some(absence), valid_until })
    }

    /// The targets with their addresses, a few at a time. The first that cannot be asked for ends
    /// it: without that one the answer would say that it is gone.
    async fn targets(
        &self,
        services: Vec<SRV>,
    ) -> Result<(Vec<FoundServer>, Option<Instant>), NetError> {
        let (mut servers, mut valid_until) = (Vec::new(), None);
        let mut waiting = services.into_iter();
        let mut asked = JoinSet::new();
        loop {
            for srv in waiting.by_ref().take(AT_ONCE - asked.len()) {
                let resolver = self.resolver.clone();
                asked.spawn(async move {
                    let Records { data, until, .. } = resolver.hosts(&srv.target).await?;
                    Ok::<_, NetError>((server(&srv, ips(data).collect()), until))
                });
            }
            let Some(answer) = asked.join_next().await else { return Ok((servers, valid_until)) };
            let (found, until) = answer.map_err(std::io::Error::from)??;
            servers.extend(found);
            valid_until = earlier(valid_until, until);
        }
    }
}

/// The services to ask for, those of the lowest priority number first, each group in an order of
/// its own: servers turn their answers around, and the same ones have to be left out every time.
fn by_priority(records: Vec<RData>) -> impl Iterator<Item = Vec<SRV>> {
    let usable = records.into_iter().filter_map(|record| match record {
        // The root as a target means that the service is decidedly not available there.
        RData::SRV(srv) if srv.port != 0 && !srv.target.is_root() => Some(srv),
        _ => None,
    });
    let mut services: Vec<_> = usable.collect();
    services.sort_by(|one, other| {
        let by_name = || one.target.cmp(&other.target).then(one.port.cmp(&other.port));
        one.priority.cmp(&other.priority).then_with(by_name)
    });
    services.truncate(MAX_TARGETS);
    let mut groups: BTreeMap<u16, Vec<SRV>> = BTreeMap::new();
    for srv in services {
        groups.entry(srv.priority).or_default().push(srv);
    }
    groups.into_values()
}

impl Resolver {
    fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, NetError> {
        let options = builder.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        // Asked again when the answer has run out, never before.
        options.cache_size = 0;
        Ok(Self(Arc::new(builder.build()?)))
    }

    /// The addresses of a host, of both kinds. One kind is enough when nobody answers for the
    /// other, as some home routers never do for IPv6.
    async fn hosts(&self, name: &Name) -> Result<Records, NetError> {
        let (v4, v6) =
            tokio::join!(self.records(name, RecordType::A), self.records(name, RecordType::AAAA));
        match (v4, v6) {
            (Ok(v4), Ok(v6)) => Ok(v4.and(v6)),
            (Ok(some), Err(error)) | (Err(error), Ok(some)) => {
                if some.data.is_empty() {
                    Err(error)
                } else {
                    Ok(some)
                }
            }
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// The data of records; none when the name is not there or has no such records.
    async fn records(&self, name: &Name, kind: RecordType) -> Result<Records, NetError> {
        match self.0.lookup(name.clone(), kind).await {
            Ok(found) => {
                let of_kind = found.answers().iter().filter(|one| one.record_type() == kind);
                let data: Vec<_> = of_kind.map(|one| one.data.clone()).collect();
                let absence = data.is_empty().then_some(Absence::NoRecords(kind));
                Ok(Records { data, absence, until: Some(found.valid_until()) })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
            {
                let ttl = none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()));
                let absence = match none.response_code {
                    ResponseCode::NXDomain => Absence::NoSuchName,
                    _ => Absence::NoRecords(kind),
                };
                // tidy-allow: clock, the resolver counts on the clock of the system
                let until = ttl.map(|ttl| Instant::now() + ttl);
                Ok(Records { data: Vec::new(), absence: Some(absence), until })
            }
            Err(error) => Err(error),
        }
    }
}

impl Records {
    /// Those of two kinds. A host of one kind only has none of the other, and that is no reason to
    /// ask again soon. One without any may be a zone that is lost for a moment.
    fn and(mut self, other: Self) -> Self {
        let until = earlier(self.until, other.until);
        self.data.extend(other.data);
        if self.data.is_empty() {
            // tidy-allow: clock, the resolver counts on the clock of the system
            let soon = Instant::now() + MISSING_FOR;
            return Self { until: earlier(until, Some(soon)), ..self };
        }
        Self { data: self.data, absence: None, until }
    }
}

fn ips(data: Vec<RData>) -> impl Iterator<Item = IpAddr> {
    data.into_iter().filter_map(|data| match data {
        RData::A(ip) => Some(IpAddr::V4(ip.0)),
        RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
        _ => None,
    })
}

fn at(address: SocketAddr) -> FoundServer {
    FoundServer { name: address.to_string(), addresses: vec![address], weight: 1 }
}

fn server(srv: &SRV, mut ips: Vec<IpAddr>) -> Option<FoundServer> {
    ips.sort();
    ips.dedup();
    ips.truncate(MAX_ADDRESSES);
    let addresses: Vec<_> = ips.into_iter().map(|ip| SocketAddr::new(ip, srv.port)).collect();
    let name = format!("{}:{}", srv.target.to_lowercase(), srv.port);
    // A weight of 0 asks for next to nothing, and 1 is the least there is.
    let weight = u32::from(srv.weight).clamp(1, 1000);
    (!addresses.is_empty()).then_some(FoundServer { name, addresses, weight })
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
