//! The hub that connects callers and servers of one process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use sinew_plane::{Address, AddressError, ConfigError, RequestHandler, TransportId};

use crate::{
    config::{CheckedMemoryConfig, MemoryConfig},
    exchange::Streams,
    server::MemoryServer,
};

/// The transport's name and the scheme of its addresses.
pub(crate) static MEMORY: TransportId = TransportId::from_static("memory");

/// The names that are served in this process. Clones are handles to the same hub; two hubs are
/// independent.
#[derive(Clone)]
pub struct MemoryHub(Arc<Inner>);

struct Inner {
    config: CheckedMemoryConfig,
    /// As many as the program serves: entries come from its own code, never from a peer.
    services: Mutex<HashMap<String, Weak<Service>>>,
}

/// What stands behind one name.
pub(crate) struct Service {
    pub(crate) handler: Arc<dyn RequestHandler>,
    pub(crate) streams: Arc<Streams>,
}

impl MemoryHub {
    /// Makes a hub with the given limits.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting that breaks a rule.
    pub fn new(config: MemoryConfig) -> Result<Self, ConfigError> {
        Ok(Self::with_config(config.checked()?))
    }

    /// Makes a hub with limits that are checked already.
    pub fn with_config(config: CheckedMemoryConfig) -> Self {
        Self(Arc::new(Inner { config, services: Mutex::default() }))
    }

    /// Serves `memory://NAME` until the server is shut down or dropped.
    ///
    /// # Errors
    /// [`ServeError`] if the name is served already or cannot be part of an address.
    pub fn serve(
        &self,
        name: &str,
        handler: impl RequestHandler + 'static,
    ) -> Result<MemoryServer, ServeError> {
        self.serve_shared(name, Arc::new(handler))
    }

    /// As [`serve`](Self::serve), with a handler that other code holds as well.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn serve_shared(
        &self,
        name: &str,
        handler: Arc<dyn RequestHandler>,
    ) -> Result<MemoryServer, ServeError> {
        let address = Address::new(MEMORY.as_str(), name).map_err(ServeError::Name)?;
        let streams = Arc::new(Streams::new(self.0.config.max_streams));
        let service = Arc::new(Service { handler, streams });
        {
            let mut services = self.0.services.lock();
            if services.get(name).is_some_and(|service| service.strong_count() > 0) {
                return Err(ServeError::Taken { name: name.to_owned() });
            }
            services.insert(name.to_owned(), Arc::downgrade(&service));
        }
        Ok(MemoryServer::new(self.clone(), address, service))
    }

    pub(crate) fn config(&self) -> &CheckedMemoryConfig {
        &self.0.config
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Service>> {
        self.0.services.lock().get(name).and_then(Weak::upgrade)
    }

    /// Takes a name back, unless somebody else serves it by now.
    pub(crate) fn withdraw(&self, name: &str, service: &Arc<Service>) {
        let mut services = self.0.services.lock();
        if services.get(name).is_some_and(|known| known.as_ptr() == Arc::as_ptr(service)) {
            services.remove(name);
        }
    }
}

impl Default for MemoryHub {
    fn default() -> Self {
        Self::with_config(CheckedMemoryConfig::default())
    }
}

impl fmt::Debug for MemoryHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.services.lock().keys().cloned().collect();
        f.debug_struct("MemoryHub").field("names", &names).finish_non_exhaustive()
    }
}

/// Why a name cannot be served. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServeError {
    /// The name is served already: shut that server down first, or choose another name.
    Taken {
        /// The name.
        name: String,
    },
    /// The name cannot be part of an address.
    Name(AddressError),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { name } => write!(f, "memory://{name} is served already"),
            Self::Name(_) => f.write_str("the name cannot stand in an address"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Taken { .. } => None,
            Self::Name(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests;
