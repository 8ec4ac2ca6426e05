//! Any peer, once its types no longer matter: what a run goes through.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use sinew_plane::BoxFuture;

use crate::{
    Command, Control, Lanes, Pace, Peer, Sample, Server, Service, Stats, Workload, measure,
    workload,
};

/// A [`Peer`] as a value among others. Every peer is one; what is measured stays compiled for
/// its own types.
pub trait Contestant: Send + Sync {
    /// See [`Peer::name`].
    fn name(&self) -> &str;

    /// See [`Peer::about`].
    fn about(&self) -> &str;

    /// See [`Peer::runs`].
    fn runs(&self, workload: &Workload) -> bool;

    /// The program that has it, unless it is this one.
    fn program(&self) -> Option<&Path> {
        None
    }

    /// Starts its server in this process.
    fn host(&self) -> BoxFuture<'_, Result<Box<dyn Host>>>;

    /// Runs a workload against servers at `addresses` that answer to `control`: as many as the
    /// workload has [engines](crate::Shape::engines). All callers are in this process.
    fn measure<'a>(
        &'a self,
        workload: &'a Workload,
        pace: Pace,
        addresses: &'a [String],
        control: &'a mut dyn Control,
    ) -> BoxFuture<'a, Result<Sample>>;

    /// Opens streams for the engines at `addresses`: `streams` of `callers`, each of which has a
    /// connection to each engine.
    fn consume<'a>(
        &'a self,
        addresses: &'a [String],
        callers: usize,
        streams: usize,
    ) -> BoxFuture<'a, Result<Box<dyn Lanes>>>;
}

/// A server that runs in this process.
pub trait Host: Send + Sync {
    /// Where it listens.
    fn address(&self) -> String;

    /// Carries out a command.
    fn execute(&self, command: Command) -> BoxFuture<'_, Result<Stats>>;
}

impl<P: Peer> Contestant for P {
    fn name(&self) -> &str {
        Peer::name(self)
    }

    fn about(&self) -> &str {
        Peer::about(self)
    }

    fn runs(&self, workload: &Workload) -> bool {
        Peer::runs(self, &workload.shape)
    }

    fn host(&self) -> BoxFuture<'_, Result<Box<dyn Host>>> {
        Box::pin(async move {
            let service = Arc::new(Service::new());
            let server = self.serve(Arc::clone(&service)).await?;
            Ok(Box::new(Hosted::<P> { server, service }) as Box<dyn Host>)
        })
    }

    fn measure<'a>(
        &'a self,
        workload: &'a Workload,
        pace: Pace,
        addresses: &'a [String],
        control: &'a mut dyn Control,
    ) -> BoxFuture<'a, Result<Sample>> {
        Box::pin(workload::run(self, workload, pace, addresses, control))
    }

    fn consume<'a>(
        &'a self,
        addresses: &'a [String],
        callers: usize,
        streams: usize,
    ) -> BoxFuture<'a, Result<Box<dyn Lanes>>> {
        Box::pin(workload::open(self, addresses, callers, streams))
    }
}

struct Hosted<P: Peer> {
    server: P::Server,
    service: Arc<Service<P::Sink>>,
}

impl<P: Peer> Hosted<P> {
    fn stats(&self) -> Stats {
        let engine = &self.service.engine;
        Stats {
            cpu_ns: measure::cpu_ns() + self.server.helpers_cpu_ns(),
            resident_bytes: measure::resident_bytes(),
            writes: self.server.writes(),
            pool: self.server.pool(),
            parked: self.service.parked(),
            lanes: engine.lanes(),
            passes: engine.passes(),
            items: engine.items(),
        }
    }
}

impl<P: Peer> Host for Hosted<P> {
    fn address(&self) -> String {
        self.server.address()
    }

    fn execute(&self, command: Command) -> BoxFuture<'_, Result<Stats>> {
        Box::pin(async move {
            match command {
                Command::Report => {}
                Command::StartPasses { every_us, item_bytes } => {
                    let every = every_us.map(Duration::from_micros);
                    self.service.engine.start(every, item_bytes as usize);
                }
                Command::StopPasses => self.service.engine.stop().await,
            }
            Ok(self.stats())
        })
    }
}
