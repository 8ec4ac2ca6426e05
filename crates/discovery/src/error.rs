//! Why discovery could not do something.

use std::fmt;

/// Why discovery could not do something. Nothing that was known before is lost by it.
#[derive(Debug)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The backend cannot be reached or used now; trying again later may help.
    Unavailable {
        /// The backend.
        backend: &'static str,
        /// What was being done, and where.
        what: String,
        /// The cause.
        source: Option<std::io::Error>,
    },
    /// The backend answers, and does not let this process in: a user or a password is wrong or
    /// missing. Trying again with the same ones does not help.
    Denied {
        /// The backend.
        backend: &'static str,
        /// What was being done, where, and what the backend says.
        what: String,
    },
    /// Other users could change what is found there. The operator's to mend: trying again brings
    /// the same.
    Untrusted {
        /// The backend.
        backend: &'static str,
        /// Which folder, why, and what to do.
        what: String,
    },
    /// The backend does not take registrations.
    ReadOnly {
        /// The backend.
        backend: &'static str,
    },
    /// Another live process holds this endpoint and id.
    Taken {
        /// The key that is taken.
        key: crate::InstanceKey,
    },
    /// What was given is not valid; the caller's to mend.
    Invalid {
        /// What and why.
        reason: String,
    },
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { backend, what, .. } => {
                write!(f, "{backend} discovery is not available: {what}")
            }
            Self::Denied { backend, what } => {
                write!(f, "{backend} discovery does not let this process in: {what}")
            }
            Self::Untrusted { backend, what } => write!(f, "{backend} discovery: {what}"),
            Self::ReadOnly { backend } => {
                write!(
                    f,
                    "{backend} discovery does not take registrations: use file:PATH or etcd://HOST:PORT"
                )
            }
            Self::Taken { key } => {
                write!(f, "{key} is registered by another live process: choose another instance id")
            }
            Self::Invalid { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for DiscoveryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unavailable { source: Some(source), .. } => Some(source),
            _ => None,
        }
    }
}
