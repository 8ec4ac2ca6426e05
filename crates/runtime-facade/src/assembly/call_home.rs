//! The listener that workers connect to with the responses of split exchanges.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use sinew_discovery::View;
use sinew_plane::{
    Address, EndpointName, Error, InstanceId, OutgoingRequest, ResponsePlaneServer,
    ResponseRegistration, Shutdown,
};
use sinew_plane_call_home::{CheckedTcpStreamServerConfig, TcpStreamServer};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::assembly::removed_instances::follow;

/// The listener for workers that dial back. It binds its port at the first split request, because a
/// process that sends none does not have to be reachable.
pub(crate) struct CallHome {
    config: CheckedTcpStreamServerConfig,
    view: View,
    /// The tokio runtime that this process was started in. The listener runs there, because it
    /// outlives the call that binds it.
    runtime: Handle,
    listening: OnceLock<Arc<TcpStreamServer>>,
    /// Held while the port is bound.
    binding: Mutex<()>,
    /// The task that follows discovery, so that no caller waits for a worker that is gone.
    follower: TaskTracker,
    closing: CancellationToken,
}

impl CallHome {
    pub(crate) fn new(config: CheckedTcpStreamServerConfig, view: View) -> Self {
        Self {
            config,
            view,
            runtime: Handle::current(),
            listening: OnceLock::new(),
            binding: Mutex::default(),
            follower: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    /// The server, which the first call of this method binds. A failure is returned and not kept,
    /// because the port may be free the next time.
    fn server(&self) -> Result<&TcpStreamServer, Error> {
        if let Some(server) = self.listening.get() {
            return Ok(server);
        }
        let _binding = self.binding.lock();
        if self.closing.is_cancelled() {
            return Err(Error::draining("the runtime is shutting down"));
        }
        if self.listening.get().is_none() {
            let _within = self.runtime.enter();
            let server = Arc::new(TcpStreamServer::bind(self.config.clone())?);
            let following = follow(self.view.clone(), Arc::clone(&server));
            let following = self.closing.clone().run_until_cancelled_owned(following);
            self.follower.spawn(following);
            // Under the lock nobody else sets it.
            let _ = self.listening.set(server);
        }
        self.listening.get().map(|server| &**server).ok_or_else(|| Error::draining("not bound"))
    }

    /// Ends the listener and its connections; none can be bound afterwards.
    pub(crate) async fn close(&self, grace: Duration) -> Shutdown {
        {
            let _binding = self.binding.lock();
            self.closing.cancel();
        }
        self.follower.close();
        self.follower.wait().await;
        match self.listening.get() {
            Some(server) => server.close(grace).await,
            None => Shutdown::default(),
        }
    }
}

impl Drop for CallHome {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl ResponsePlaneServer for CallHome {
    fn register(&self, request: &OutgoingRequest) -> Result<ResponseRegistration, Error> {
        self.server()?.register(request)
    }

    fn instance_removed(&self, endpoint: &EndpointName, instance: InstanceId) {
        if let Some(server) = self.listening.get() {
            server.instance_removed(endpoint, instance);
        }
    }

    fn public_address(&self) -> Option<Address> {
        self.server().ok()?.public_address()
    }

    // Without a port: it is asked for when the transport is made.
    fn resumes(&self) -> bool {
        self.config.resumes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use sinew_discovery::{Discovery, MemoryDiscovery};

    use super::*;
    use crate::Config;

    #[tokio::test]
    async fn a_port_that_was_taken_is_bound_once_it_is_free() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::default();
        config.call_home.port = taken.local_addr().unwrap().port();
        let config = config.checked().unwrap();
        let view = MemoryDiscovery::new().watch().await.unwrap();
        let call_home = CallHome::new(config.call_home.clone(), view);
        assert!(call_home.server().is_err());
        drop(taken);
        assert!(call_home.server().is_ok());
        assert_eq!(call_home.close(Duration::ZERO).await, Shutdown::default());
        assert!(call_home.closing.is_cancelled());
    }
}
