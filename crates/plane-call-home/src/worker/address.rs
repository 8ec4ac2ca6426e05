//! The address of a caller, which its request names: resolved and checked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sinew_plane::{Code, Decision, Error, Executed, Origin, clock};
use tokio::sync::Semaphore;

use super::dial_policy::{DialPolicy, Refusal};
use crate::config::CheckedTcpStreamClientConfig;

/// Names that are looked up at once. Each holds a thread until the name service has answered,
/// which callers must not be able to take all of.
const MAX_LOOKUPS: usize = 64;

/// Longest wait for the address of a name. A caller waits 5 s for its acknowledgement, and hears
/// before that why there is none.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an address is taken for that of its name, and how many names are known: the callers of
/// a worker are few, and each asks often.
const KEPT: Duration = Duration::from_secs(30);
const MAX_NAMES: usize = 1_024;

/// Further addresses of a name that are tried for streams whose connection is lost.
const MAX_OTHERS: usize = 4;

/// Finds out where a response is dialled to.
pub(crate) struct CallerAddresses {
    pub(crate) policy: DialPolicy,
    names: Mutex<HashMap<Box<str>, Known>>,
    lookups: Arc<Semaphore>,
}

/// The addresses of a name, and when they were learned.
struct Known {
    addresses: Arc<[SocketAddr]>,
    at: Instant,
}

impl CallerAddresses {
    pub(crate) fn new(config: &CheckedTcpStreamClientConfig) -> Arc<Self> {
        Arc::new(Self {
            policy: DialPolicy::new(config),
            names: Mutex::default(),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        })
    }

    /// Whether a request of this origin may name this address; later, where a name has to be
    /// looked up first.
    pub(crate) fn check(self: &Arc<Self>, text: &str, origin: Origin) -> Decision {
        if let Ok(address) = text.parse() {
            return Decision::Now(self.policy.check(address, origin, text));
        }
        if let Err(error) = check_name(text, origin) {
            return Decision::Now(Err(error));
        }
        if let Some(addresses) = self.known(text, KEPT) {
            return Decision::Now(self.choose(&addresses, text, origin).map(drop));
        }
        let (this, text) = (Arc::clone(self), text.to_owned());
        Decision::Later(Box::pin(async move {
            let addresses = this.look_up(&text).await?;
            this.choose(&addresses, &text, origin).map(drop)
        }))
    }

    /// The address to dial for a request of this origin. What is returned was checked: a name is
    /// not looked up again for the dial, so that no other answer can come in between.
    ///
    /// # Errors
    /// [`Code::NoTransport`]: it is no address, or none that may be dialled.
    /// [`Code::ConnectFailed`]: its name is not known.
    pub(crate) async fn resolve(&self, text: &str, origin: Origin) -> Result<SocketAddr, Error> {
        if let Ok(address) = text.parse() {
            return self.policy.check(address, origin, text).map(|()| address);
        }
        check_name(text, origin)?;
        // It was looked up when the request came. However long that is ago, it is checked again.
        let addresses = match self.known(text, Duration::MAX) {
            Some(addresses) => addresses,
            None => self.look_up(text).await?,
        };
        self.choose(&addresses, text, origin)
    }

    /// The other addresses of a name that was [resolved](Self::resolve) to `first` and may be dialled
    /// for a request of this origin.
    pub(crate) fn others(&self, text: &str, first: SocketAddr, origin: Origin) -> Vec<SocketAddr> {
        let known = self.known(text, Duration::MAX);
        let addresses = known.iter().flat_map(|addresses| addresses.iter().copied());
        let may_be_dialled =
            |it: &SocketAddr| *it != first && self.policy.judge(*it, origin).is_ok();
        addresses.filter(may_be_dialled).take(MAX_OTHERS).collect()
    }

    fn known(&self, name: &str, kept: Duration) -> Option<Arc<[SocketAddr]>> {
        let names = self.names.lock();
        let known = names.get(name).filter(|known| clock::since(known.at) < kept)?;
        Some(Arc::clone(&known.addresses))
    }

    /// Asks the name service. Cancel-safe: what was begun counts until it is over.
    async fn look_up(&self, name: &str) -> Result<Arc<[SocketAddr]>, Error> {
        let shown: String = name.chars().take(64).collect();
        let failed = |why: &str| {
            let message = format!("response address {shown:?}: {why}");
            Error::new(Code::ConnectFailed, message).with_executed(Executed::No)
        };
        let Ok(permit) = Arc::clone(&self.lookups).try_acquire_owned() else {
            let message = "too many names of callers are looked up at once";
            return Err(Error::new(Code::Overloaded, message));
        };
        let owned = name.to_owned();
        // In a task that holds the permit to its end: a wait that is given up ends no lookup.
        let asked = tokio::spawn(async move {
            let found = tokio::net::lookup_host(owned).await;
            drop(permit);
            found.map(|addresses| addresses.collect::<Arc<[SocketAddr]>>())
        });
        let addresses = match tokio::time::timeout(LOOKUP_TIMEOUT, asked).await {
            Ok(Ok(Ok(addresses))) => addresses,
            Ok(Ok(Err(cause))) => return Err(failed(&cause.to_string()).with_source(cause)),
            Ok(Err(_)) => return Err(failed("the lookup was given up")),
            Err(_) => return Err(failed("no answer from the name service")),
        };
        let mut names = self.names.lock();
        if names.len() >= MAX_NAMES {
            names.retain(|_, known| clock::since(known.at) < KEPT);
        }
        if names.len() < MAX_NAMES {
            let known = Known { addresses: Arc::clone(&addresses), at: clock::now() };
            names.insert(name.into(), known);
        }
        Ok(addresses)
    }

    /// The first of a name's addresses that may be dialled.
    fn choose(
        &self,
        addresses: &[SocketAddr],
        text: &str,
        origin: Origin,
    ) -> Result<SocketAddr, Error> {
        let mut refusal = Refusal::Never("has no address");
        for address in addresses {
            match self.policy.judge(*address, origin) {
                Ok(()) => return Ok(*address),
                Err(why) => refusal = why,
            }
        }
        Err(refusal.error(text, origin))
    }
}

/// A name with a port, as far as one can tell without looking it up.
fn check_name(text: &str, origin: Origin) -> Result<(), Error> {
    const LONGEST: usize = 253 + ":65535".len();
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_named = text.len() <= LONGEST
        && text.rsplit_once(':').is_some_and(|(name, port)| {
            let is_port = port.bytes().all(|it| it.is_ascii_digit());
            let is_name = !name.is_empty() && name.bytes().all(is_name_byte);
            is_name && is_port && port.parse::<u16>().is_ok_and(|it| it != 0)
        });
    if is_named {
        return Ok(());
    }
    Err(Refusal::Never("is not written HOST:PORT").error(text, origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TcpStreamClientConfig;

    fn addresses(config: TcpStreamClientConfig) -> Arc<CallerAddresses> {
        CallerAddresses::new(&config.checked().unwrap())
    }

    fn far() -> Origin {
        Origin::Peer([203, 0, 113, 9].into())
    }

    /// Both ways of asking say the same.
    async fn ask(
        addresses: &Arc<CallerAddresses>,
        text: &str,
        origin: Origin,
    ) -> Result<(), Error> {
        let checked = match addresses.check(text, origin) {
            Decision::Now(outcome) => outcome,
            Decision::Later(outcome) => outcome.await,
        };
        let resolved = addresses.resolve(text, origin).await;
        assert_eq!(checked.is_ok(), resolved.is_ok(), "{text}");
        checked
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused_and_what_it_is_said() {
        let addresses = addresses(TcpStreamClientConfig::default());
        for bad in [
            "",
            "nonsense",
            "host",
            "host:0",
            ":80",
            "a:b:80",
            "/run/x.sock",
            "0.0.0.0:80",
            "h\u{e4}:80",
            "a b:80",
            "h:+80",
            "[::1]",
            "h:65536",
            "127.0.0.1:0",
        ] {
            let error = ask(&addresses, bad, Origin::SameHost).await.unwrap_err();
            assert_eq!(
                (error.code(), error.executed()),
                (Code::NoTransport, Executed::No),
                "{bad}"
            );
            assert!(error.message().contains(&format!("{bad:?}")), "{error}");
        }
        let long = format!("{}:80", "a".repeat(300));
        assert!(ask(&addresses, &long, Origin::SameHost).await.is_err());
    }

    /// `localhost` is loopback, whoever says it.
    #[tokio::test]
    async fn a_name_is_looked_up_and_its_address_checked() {
        let addresses = addresses(TcpStreamClientConfig::default());
        assert!(matches!(addresses.check("localhost:80", Origin::SameHost), Decision::Later(_)));
        assert!(ask(&addresses, "localhost:80", Origin::SameHost).await.is_ok());
        let error = ask(&addresses, "localhost:80", far()).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::NoTransport, Executed::No));
        assert!(error.message().contains("localhost:80"), "{error}");
        assert!(error.message().contains("allowed_networks"), "{error}");
        // Known by now, so that it costs no wait.
        assert!(matches!(addresses.check("localhost:80", far()), Decision::Now(Err(_))));
    }

    #[tokio::test]
    async fn lookups_have_a_bound_and_names_too() {
        let addresses = addresses(TcpStreamClientConfig::default());
        let all = u32::try_from(MAX_LOOKUPS).unwrap();
        let taken = Arc::clone(&addresses.lookups).try_acquire_many_owned(all).unwrap();
        let error = ask(&addresses, "localhost:81", Origin::SameHost).await.unwrap_err();
        assert_eq!(error.code(), Code::Overloaded);
        drop(taken);
        for port in 1..=MAX_NAMES + 1 {
            let known = Known { addresses: Arc::default(), at: Instant::now() };
            addresses.names.lock().insert(format!("x:{port}").into(), known);
        }
        assert!(ask(&addresses, "localhost:81", Origin::SameHost).await.is_ok());
        assert!(addresses.names.lock().len() <= MAX_NAMES + 1);
    }
}
