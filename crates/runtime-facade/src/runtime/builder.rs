//! The builder of a runtime whose settings are made in code.

use std::{fmt, sync::Arc};

use sinew_plane::{ConnectionEvents, OnConnectionEvent};

use crate::{
    CheckedConfig, Config, ConfigError, DiscoveryFactory, DiscoverySource, Listener, Runtime,
    StartError, TransportFactory, assembly::Assembly,
};

/// Settings of a [`Runtime`] before it starts, and the listeners, transports and discovery that the
/// program adds.
#[derive(Default)]
#[must_use = "nothing starts before it is built"]
pub struct RuntimeBuilder {
    config: Box<Config>,
    parts: Parts,
}

/// The parts that the program adds.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) assembly: Assembly,
    pub(crate) discoveries: Vec<Arc<dyn DiscoveryFactory>>,
}

impl RuntimeBuilder {
    /// Sets where instances are announced and found.
    pub fn discovery(mut self, source: DiscoverySource) -> Self {
        self.config.discovery = source;
        self
    }

    /// Adds a discovery of your own. After several calls all of them are merged into one view; a
    /// [`DiscoverySource`] can be among them. A discovery that is open already is passed as
    /// `Arc<dyn Discovery>`. With a [`discovery`](Self::discovery) in the settings beside it, the
    /// start fails.
    pub fn custom_discovery(mut self, discovery: impl DiscoveryFactory + 'static) -> Self {
        self.parts.discoveries.push(Arc::new(discovery));
        self
    }

    /// Adds a listener to those that the settings ask for. It starts after those for TCP and Unix
    /// sockets, and its addresses are announced after theirs.
    pub fn listener(mut self, listener: impl Listener + 'static) -> Self {
        self.parts.assembly.listeners.push(Arc::new(listener));
        self
    }

    /// Adds transports for calls to those that the settings ask for.
    pub fn transport_factory(mut self, factory: impl TransportFactory + 'static) -> Self {
        self.parts.assembly.factories.push(Arc::new(factory));
        self
    }

    /// Sets who hears of the connections that this process makes for its calls: when one is up, when
    /// one is lost, and when streams go on over another one or are given up. `listener` is a
    /// function or a type of your own, and must not block. The later of two calls counts.
    ///
    /// # Examples
    /// ```
    /// use sinew::{ConnectionEvent, Runtime};
    ///
    /// let builder = Runtime::builder().on_connection_event(|event: &ConnectionEvent| match event {
    ///     ConnectionEvent::Lost { address, streams, .. } if *streams > 0 => {
    ///         eprintln!("{streams} streams have lost {address}");
    ///     }
    ///     other => eprintln!("{other}"),
    /// });
    /// # drop(builder);
    /// ```
    pub fn on_connection_event(mut self, listener: impl OnConnectionEvent + 'static) -> Self {
        self.config.tcp.driver.events = ConnectionEvents::to(Arc::new(listener));
        self
    }

    /// Changes any other setting.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Sets all settings at once, such as those of [`Config::from_env`], in place of those set
    /// before. Your own listeners, transports and discovery stay.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Box::new(config);
        self
    }

    /// Checks the settings and starts.
    ///
    /// # Errors
    /// As [`Runtime::new`], and for settings that do not fit together.
    pub async fn build(self) -> Result<Runtime, StartError> {
        let Self { config, parts } = self;
        if !parts.discoveries.is_empty() && config.discovery != Config::default().discovery {
            let reason = format!(
                "is {} (a variable may have set it), and custom_discovery is given too: leave one out",
                config.discovery
            );
            return Err(ConfigError::new("discovery", reason).into());
        }
        let config: CheckedConfig = config.checked()?;
        Box::pin(Runtime::start(config, parts, &|_| {})).await
    }
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use sinew_discovery::{Discovery, MemoryDiscovery};

    use super::*;

    #[tokio::test]
    async fn a_discovery_that_the_settings_name_beside_one_of_your_own_is_refused() {
        let own = || {
            let memory: Arc<dyn Discovery> = Arc::new(MemoryDiscovery::new());
            Runtime::builder().custom_discovery(memory)
        };
        let both = own().discovery(DiscoverySource::Memory).build().await.unwrap_err();
        let StartError::Config(error) = &both else { panic!("{both:?}") };
        assert_eq!(error.setting(), "discovery");
        assert!(error.reason().contains("custom_discovery"), "{error}");
        own().build().await.unwrap();
    }
}
