//! Why discovery could not do something.

/// Why discovery could not do something. Nothing that was known before is lost by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The backend cannot be reached or used now; trying again later may help.
    #[error("{backend} discovery is not available: {what}")]
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
    #[error("{backend} discovery does not let this process in: {what}")]
    Denied {
        /// The backend.
        backend: &'static str,
        /// What was being done, where, and what the backend says.
        what: String,
    },
    /// Other users could change what is found there. The operator's to mend: trying again brings
    /// the same.
    #[error("{backend} discovery: {what}")]
    Untrusted {
        /// The backend.
        backend: &'static str,
        /// Which folder, why, and what to do.
        what: String,
    },
    /// The backend does not take registrations.
    #[error("{backend} discovery does not take registrations: use file:PATH or etcd://HOST:PORT")]
    ReadOnly {
        /// The backend.
        backend: &'static str,
    },
    /// Another live process holds this endpoint and id.
    #[error("{key} is registered by another live process: choose another instance id")]
    Taken {
        /// The key that is taken.
        key: crate::InstanceKey,
    },
    /// What was given is not valid; the caller's to mend.
    #[error("{reason}")]
    Invalid {
        /// What and why.
        reason: String,
    },
}
