//! Addresses that stand for several places.

use std::{io, sync::Arc};

use sinew_mux_driver::{ConnectionSet, Dialer, DriverConfig};
use sinew_net::{Attempt, Carrier, Connector};
use sinew_plane::{
    Address, BoxFuture, CONNECT_ATTEMPT_DELAY, DuplexServer, Error, IncomingRequest, ResponseSink,
};
use sinew_telemetry::Side;
use tokio::time::Instant;

use crate::memory::{Hub, PipeServer};

/// Reaches `good` with the last of several attempts; the others never come to an end.
struct Several {
    hub: Arc<Hub>,
    good: Address,
    silent: usize,
}

impl Connector for Several {
    fn attempts<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, Result<Vec<Attempt>, Error>> {
        Box::pin(async move {
            let silent = || Box::pin(std::future::pending::<io::Result<Box<dyn Carrier>>>());
            let mut attempts: Vec<Attempt> =
                (0..self.silent).map(|_| silent() as Attempt).collect();
            attempts.extend(self.hub.attempts(&self.good).await?);
            Ok(attempts)
        })
    }
}

/// A name may stand for a machine that is gone or a process that is stopped, and for others.
#[tokio::test(start_paused = true)]
async fn a_place_that_is_silent_does_not_hold_up_the_others() {
    let config = DriverConfig::default().checked().unwrap();
    let never = |_: IncomingRequest<'_>, _: ResponseSink| panic!("no request is sent");
    let hub = Arc::<Hub>::default();
    let server = PipeServer::new(&hub, config.clone(), Arc::new(never));
    let good = server.addresses().remove(0);
    let connector = Several { hub, good: good.clone(), silent: 2 };
    let connections = ConnectionSet::new(Side::Calling);
    let dialer = Dialer::new(good, Arc::new(connector), Arc::new(config), Arc::clone(&connections));
    let dialer = Arc::new(dialer);

    let begun = Instant::now();
    let connection = dialer.connection().await.unwrap();
    assert!(connection.is_usable());
    assert_eq!(begun.elapsed(), 2 * CONNECT_ATTEMPT_DELAY);
    assert_eq!(connections.all().len(), 1, "the others are given up");
}
