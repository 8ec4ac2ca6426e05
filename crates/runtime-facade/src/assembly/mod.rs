//! The parts of a process: the lists of its listeners, of the factories of its transports, and of
//! the factories of its discoveries.
//!
//! To add a way to receive requests, write a type that implements [`Listener`] and an entry in
//! [`assemble`]; to add a way to call, a type that implements [`TransportFactory`] and an entry
//! there. `Runtime::start`, `ServeBuilder` and `Runtime::shutdown` take all of them through their
//! steps and name none.

mod call_home;
mod discoveries;
#[cfg(feature = "dynamo")]
mod frames;
mod in_process;
mod listener;
mod listeners;
#[cfg(feature = "nats")]
mod nats;
mod planes;
mod removed_instances;
mod split;
mod tcp;
mod transports;

use std::sync::Arc;

use sinew_discovery::View;
use sinew_ingress::Ingress;
use sinew_plane::Address;
use sinew_registry::TransportRegistry;

use self::{
    call_home::CallHome, in_process::InProcess, planes::Planes, split::SplitListener,
    tcp::TcpListener, transports::MuxTransports,
};
pub use self::{
    discoveries::DiscoveryFactory,
    listener::{Announcement, Declaration, Listener},
    transports::TransportFactory,
};
pub(crate) use self::{
    discoveries::open as open_discoveries, listeners::Listeners, transports::close,
};
use crate::{CheckedConfig, RequestPlane, StartError};

/// The parts of a process.
#[derive(Default)]
pub(crate) struct Assembly {
    /// The listeners, in the order in which they start.
    pub(crate) listeners: Vec<Arc<dyn Listener>>,
    /// The factories, in the order in which their transports are registered and closed.
    pub(crate) factories: Vec<Arc<dyn TransportFactory>>,
    /// Addresses that have a meaning in this process only.
    pub(crate) own_addresses: Vec<Address>,
}

/// Makes the parts that the settings ask for and includes those that the program has `added`. Calls
/// `waiting` with the name of each server that it waits for. No listener is bound yet.
pub(crate) async fn assemble(
    config: &CheckedConfig,
    ingress: &Ingress,
    view: &View,
    registry: &Arc<TransportRegistry>,
    added: Assembly,
    waiting: &(dyn Fn(&str) + Sync),
) -> Result<Assembly, StartError> {
    let in_process = Arc::new(InProcess::new(config, ingress.clone())?);
    let call_home = Arc::new(CallHome::new(config.call_home.clone(), view.clone()));
    let split = SplitListener::new(config, ingress.clone());
    #[cfg_attr(not(any(feature = "dynamo", feature = "nats")), expect(unused_mut))]
    let mut planes = Planes::new(config, call_home, split.dial_back(), Arc::clone(registry));
    let mut parts = Assembly { own_addresses: in_process.own_addresses(), ..added };

    let mut listeners: Vec<Arc<dyn Listener>> = vec![in_process.clone()];
    let mut factories: Vec<Arc<dyn TransportFactory>> = vec![in_process];
    if config.request_plane != RequestPlane::Nats {
        #[cfg(feature = "dynamo")]
        let tcp = TcpListener::new(Arc::new(split.server().clone()));
        #[cfg(not(feature = "dynamo"))]
        let tcp = TcpListener::new();
        listeners.push(Arc::new(tcp));
        factories.push(Arc::new(MuxTransports));
        #[cfg(feature = "dynamo")]
        planes.add(Arc::new(frames::TcpFrames::new(config))).await?;
    }
    #[cfg(feature = "nats")]
    let nats = nats::Nats::connect(config, split.server(), waiting).await?.map(Arc::new);
    #[cfg(not(feature = "nats"))]
    let _ = waiting;

    listeners.append(&mut parts.listeners);
    listeners.push(Arc::new(split));
    #[cfg(feature = "nats")]
    if let Some(nats) = nats {
        planes.add(nats.clone()).await?;
        listeners.push(nats);
    }
    factories.append(&mut parts.factories);
    factories.push(Arc::new(planes.registered().await?));
    Ok(Assembly { listeners, factories, ..parts })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sinew_discovery::{Discovery, MemoryDiscovery};

    use super::*;
    use crate::Config;

    #[tokio::test]
    async fn a_build_without_dynamo_speaks_none_of_it() {
        let config = Config { request_plane: RequestPlane::Tcp, ..Config::default() };
        let config = config.checked().unwrap();
        let view = MemoryDiscovery::new().watch().await.unwrap();
        let (ingress, registry) = (Ingress::default(), Arc::new(TransportRegistry::new()));
        let parts = assemble(&config, &ingress, &view, &registry, Assembly::default(), &|_| {});
        let parts = parts.await.unwrap();
        let made = parts.factories.iter().flat_map(|one| one.transports(&config).unwrap());
        let names: Vec<_> = made.map(|one| one.id().as_str().to_owned()).collect();
        let expected: &[&str] =
            if cfg!(feature = "dynamo") { &["split-tcp", "dynamo-tcp"] } else { &[] };
        assert_eq!(names, [&["memory", "unix", "tcp"], expected].concat());
        assert_eq!(split::peer().is_some(), cfg!(feature = "dynamo"));
        let names: Vec<_> = parts.listeners.iter().map(|one| one.name().to_owned()).collect();
        assert_eq!(names, ["memory", "tcp", "split"]);
        close(&parts.factories, Duration::ZERO).await;
    }
}
