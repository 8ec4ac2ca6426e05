//! How a runtime begins whose settings are made in code.

use std::{fmt, sync::Arc};

use sinew_discovery::Discovery;

use crate::{
    CheckedConfig, Config, DiscoverySource, Listener, Runtime, StartError, TransportFactory,
    assembly::Assembly,
};

/// Settings of a [`Runtime`] before it starts, and parts of its own that the program brings.
#[derive(Default)]
#[must_use = "nothing starts before it is built"]
pub struct RuntimeBuilder {
    config: Box<Config>,
    parts: Parts,
}

/// What a program brings of its own.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) assembly: Assembly,
    pub(crate) discovery: Option<Arc<dyn Discovery>>,
}

impl RuntimeBuilder {
    /// Where instances are announced and found.
    pub fn discovery(mut self, source: DiscoverySource) -> Self {
        self.config.discovery = source;
        self
    }

    /// A discovery of your own, instead of the one that the settings name.
    pub fn custom_discovery(mut self, discovery: Arc<dyn Discovery>) -> Self {
        self.parts.discovery = Some(discovery);
        self
    }

    /// One more way to be reached, beside those that the settings ask for. It starts after those of
    /// TCP and Unix sockets, and its addresses are announced after theirs.
    pub fn listener(mut self, listener: impl Listener + 'static) -> Self {
        self.parts.assembly.listeners.push(Arc::new(listener));
        self
    }

    /// More transports for calls, beside those that the settings ask for.
    pub fn transports(mut self, factory: impl TransportFactory + 'static) -> Self {
        self.parts.assembly.factories.push(Arc::new(factory));
        self
    }

    /// Any other setting.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// All settings at once, such as those of [`Config::from_env`]. What was set before is gone;
    /// listeners, transports and a discovery of your own stay.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Box::new(config);
        self
    }

    /// Checks the settings and starts.
    ///
    /// # Errors
    /// As [`Runtime::new`], or settings that do not fit together.
    pub async fn build(self) -> Result<Runtime, StartError> {
        let Self { config, parts } = self;
        let config: CheckedConfig = config.checked()?;
        Box::pin(Runtime::start(config, parts, &|_| {})).await
    }
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
