//! What is said when a command cannot begin: what it needs is not there, or not to be used.

use std::{error::Error as StdError, io};

use sinew::{Code, Error, ServeError, StartError, layers::discovery::DiscoveryError};

use crate::exit::{Exit, Failure};

impl Failure {
    /// A failure to listen, with the way out that fits its cause.
    pub(crate) fn listening(exit: Exit, error: &(dyn StdError + 'static)) -> Self {
        let failure = Self::caused(exit, error);
        let (mut cause, mut kind) = (Some(error), None);
        while let Some(error) = cause {
            kind = kind.or_else(|| Some(error.downcast_ref::<io::Error>()?.kind()));
            cause = error.source();
        }
        match kind {
            Some(io::ErrorKind::AddrInUse) => failure.hint(
                "another process listens there, and ss -ltnp shows which: choose another port, or \
                 port 0 for a free one",
            ),
            Some(io::ErrorKind::AddrNotAvailable) => {
                failure.hint("this machine does not have that address; ip addr shows those it has")
            }
            Some(io::ErrorKind::PermissionDenied) => {
                failure.hint("ports below 1024 need a privilege: choose a higher one")
            }
            _ => failure,
        }
    }

    /// A failure to start a runtime that is to serve, which also needs a folder that it can write
    /// to.
    pub(crate) fn serving(error: StartError) -> Self {
        match error {
            StartError::Discovery(error) => Self::registering(&error, &error),
            error => Self::from(error),
        }
    }

    /// A failure to serve an endpoint, with the way out that fits what failed.
    pub(crate) fn not_served(error: ServeError) -> Self {
        match &error {
            ServeError::Discovery { error: cause, .. } => Self::registering(&error, cause),
            ServeError::Listener { error: cause, .. } => {
                Self::of_transport(Exit::SetUp, &error, cause)
            }
            _ => Self::caused(Exit::SetUp, &error).hint(error.advice()),
        }
    }

    /// A failure of a transport. Of those that are connected before anything is called, there is
    /// NATS alone, and it is waited for unless it refuses the login.
    fn of_transport(exit: Exit, error: &(dyn StdError + 'static), cause: &Error) -> Self {
        match cause.code() {
            Code::ConnectFailed => Self::caused(exit, error).hint(
                "check SINEW_NATS_USER and SINEW_NATS_PASSWORD, or SINEW_NATS_TOKEN, \
                 SINEW_NATS_NKEY or SINEW_NATS_CREDENTIALS_FILE, and that the server knows them",
            ),
            Code::ConnectTimedOut => Self::caused(exit, error)
                .hint("check --nats or $SINEW_NATS_SERVER, or do without it: --request-plane tcp"),
            _ => Self::listening(exit, error),
        }
    }

    /// A failure of the discovery that is to take what is announced.
    fn registering(error: &dyn StdError, cause: &DiscoveryError) -> Self {
        let failure = Self::caused(Exit::SetUp, error);
        match cause {
            DiscoveryError::Unavailable { backend: "file", .. } => failure.hint(WRITABLE),
            _ => match hint(cause) {
                Some(hint) => failure.hint(hint),
                None => failure,
            },
        }
    }
}

impl From<DiscoveryError> for Failure {
    fn from(error: DiscoveryError) -> Self {
        let failure = Self::caused(Exit::SetUp, &error);
        match hint(&error) {
            Some(hint) => failure.hint(hint),
            // Its own text says what to write.
            None => failure,
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Self::not_served(error)
    }
}

const WRITABLE: &str = "choose a folder that you can write to with --discovery file:PATH, or let \
                        callers name this server with --discovery static:HOST:PORT";

const READABLE: &str = "choose a folder that you can read with --discovery file:PATH, or name the \
                        servers with --discovery static:HOST:PORT";

/// What the message says about the folder can be done, or this.
const ANOTHER: &str = "or choose another folder with --discovery file:PATH, or do without one: \
                       --discovery static:HOST:PORT";

/// As a command fails that only looks.
impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match error {
            StartError::Config(_) => Exit::Usage,
            _ => Exit::SetUp,
        };
        let failure = Self::caused(exit, &error);
        match error {
            StartError::Discovery(error) => Self::from(error),
            StartError::Transport(cause) => Self::of_transport(exit, &cause, &cause),
            _ => failure,
        }
    }
}

/// What to do about a discovery that cannot be looked at or does not take what is announced.
fn hint(error: &DiscoveryError) -> Option<&'static str> {
    Some(match error {
        DiscoveryError::Unavailable { backend: "etcd", .. } => {
            "check that etcd runs there and that this machine reaches it; sinew serve waits 2 \
             minutes for it, other commands 5 s"
        }
        DiscoveryError::Denied { backend: "etcd", .. } => {
            "check SINEW_ETCD_USER and SINEW_ETCD_PASSWORD, and what etcd grants that user"
        }
        DiscoveryError::Taken { .. } => {
            "leave --instance out to have a random id, choose another one, or stop the worker \
             that has this one"
        }
        DiscoveryError::Unavailable { backend: "dns", .. } => {
            "check the name, and that this machine has a DNS server that knows it"
        }
        DiscoveryError::Unavailable { backend: "merged", .. } => {
            "one of them has to work: mend one, or name another place with --discovery"
        }
        DiscoveryError::Unavailable { .. } => READABLE,
        DiscoveryError::Untrusted { .. } => ANOTHER,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(backend: &'static str) -> DiscoveryError {
        DiscoveryError::Unavailable { backend, what: String::new(), source: None }
    }

    #[test]
    fn each_fault_of_discovery_has_its_own_hint() {
        let what = String::new();
        let key =
            sinew::InstanceKey { endpoint: "a/b/c".parse().unwrap(), id: sinew::InstanceId(7) };
        for (error, hint) in [
            (unavailable("etcd"), "runs"),
            (DiscoveryError::Denied { backend: "etcd", what }, "SINEW_ETCD_PASSWORD"),
            (DiscoveryError::Taken { key }, "--instance"),
        ] {
            let failure = Failure::from(StartError::Discovery(error));
            let said = failure.hinted();
            assert!(said.contains(hint) && !said.contains("folder"), "{said}");
        }
    }

    #[test]
    fn who_only_looks_needs_no_folder_to_write_to() {
        let untrusted = || DiscoveryError::Untrusted { backend: "file", what: String::new() };
        for (error, reading, serving) in [
            (unavailable("file"), "can read", "can write to"),
            (untrusted(), "another folder", "another folder"),
        ] {
            let again = match &error {
                DiscoveryError::Untrusted { .. } => untrusted(),
                _ => unavailable("file"),
            };
            let begun = Failure::serving(StartError::Discovery(match &error {
                DiscoveryError::Untrusted { .. } => untrusted(),
                _ => unavailable("file"),
            }));
            assert!(begun.hinted().contains(serving), "{}", begun.hinted());
            let looked = Failure::from(StartError::Discovery(error));
            assert!(looked.hinted().contains(reading), "{}", looked.hinted());
            assert!(!looked.hinted().contains("write"), "{}", looked.hinted());
            let endpoint = "a/b/c".parse().unwrap();
            let instance = sinew::InstanceId(7);
            let served =
                Failure::not_served(ServeError::Discovery { endpoint, instance, error: again });
            assert!(served.hinted().contains(serving), "{}", served.hinted());
        }
    }
}
