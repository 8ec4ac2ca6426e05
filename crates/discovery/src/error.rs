//! The errors of discovery.

/// Why an operation of discovery failed. Existing views keep their content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The backend cannot be reached or used now. A later attempt may succeed.
    #[error("{backend} discovery is not available: {what}")]
    Unavailable {
        /// The backend.
        backend: &'static str,
        /// The operation, and where.
        what: String,
        /// The cause.
        source: Option<std::io::Error>,
    },
    /// The backend denies access to this process: a user or a password is wrong or missing. Another
    /// attempt with the same ones fails too.
    #[error("{backend} discovery does not let this process in: {what}")]
    Denied {
        /// The backend.
        backend: &'static str,
        /// The operation, where, and the message of the backend.
        what: String,
    },
    /// Other users could change the content of the folder. A person has to change its permissions;
    /// until then another attempt fails too.
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
    /// The backend holds no policies. Another attempt fails too.
    #[error("{backend} discovery holds no policies: use file:PATH or etcd://HOST:PORT")]
    NoPolicies {
        /// The backend.
        backend: &'static str,
    },
    /// Another running process has registered this endpoint and id.
    #[error("{key} is registered by another live process: choose another instance id")]
    Taken {
        /// The key that is taken.
        key: crate::InstanceKey,
    },
    /// An argument is not valid. The caller has to change it.
    #[error("{reason}")]
    Invalid {
        /// Which argument, and why.
        reason: String,
    },
}
