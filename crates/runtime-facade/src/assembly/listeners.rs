//! The listeners of a process, and the steps that the runtime takes each of them through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sinew_plane::{Address, EndpointName, Error, RequestHandler, Shutdown};
use tokio::sync::Mutex;

use crate::{
    Announcement, CheckedConfig, Declaration, Listener, ServeError, control::ControlServer,
};

/// All listeners, in the order in which they start. They stop in the opposite order, so that a
/// listener may depend on those before it.
pub(crate) struct Listeners {
    all: Vec<Entry>,
    /// Starts first and stops last. No request comes through it.
    control: ControlServer,
    /// Held while the listeners start, so that of two endpoints that are served at the same time
    /// the second waits for the first. True once the listeners have stopped.
    stopped: Mutex<bool>,
}

struct Entry {
    listener: Arc<dyn Listener>,
    started: AtomicBool,
}

impl Listeners {
    pub(crate) fn new(all: Vec<Arc<dyn Listener>>) -> Self {
        let entry = |listener| Entry { listener, started: AtomicBool::new(false) };
        let all = all.into_iter().map(entry).collect();
        Self { all, control: ControlServer::default(), stopped: Mutex::default() }
    }

    pub(crate) fn control(&self) -> &ControlServer {
        &self.control
    }

    /// Starts the listeners that are not running yet.
    pub(crate) async fn start(
        &self,
        endpoint: &EndpointName,
        config: &CheckedConfig,
        handler: &Arc<dyn RequestHandler>,
    ) -> Result<(), ServeError> {
        let stopped = self.stopped.lock().await;
        if *stopped {
            return Err(ServeError::ShuttingDown { endpoint: endpoint.clone() });
        }
        self.control.start(config);
        for Entry { listener, started } in &self.all {
            if started.load(Ordering::Acquire) {
                continue;
            }
            let starting = listener.start(config, Arc::clone(handler));
            starting.await.map_err(|error| listening(endpoint, &**listener, error))?;
            started.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// The addresses of all listeners, best first.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.all.iter().flat_map(|one| one.listener.addresses()).collect()
    }

    /// Announces an endpoint to each listener.
    pub(crate) async fn announce(
        &self,
        declaration: &Declaration,
    ) -> Result<Vec<Box<dyn Announcement>>, ServeError> {
        let mut announcements = Vec::new();
        for Entry { listener, .. } in &self.all {
            let announced = listener.announce(declaration).await;
            let announced =
                announced.map_err(|error| listening(&declaration.endpoint, &**listener, error))?;
            announcements.extend(announced);
        }
        Ok(announcements)
    }

    /// The longest withdrawal delay of all listeners.
    pub(crate) fn withdrawal_delay(&self) -> Duration {
        let delays = self.all.iter().map(|one| one.listener.withdrawal_delay());
        delays.max().unwrap_or_default()
    }

    /// The listeners that were started, and whether requests can arrive at each now.
    pub(crate) fn states(&self) -> Vec<(String, bool)> {
        let started = self.all.iter().filter(|one| one.started.load(Ordering::Acquire));
        started.map(|one| (one.listener.name().to_owned(), one.listener.is_up())).collect()
    }

    pub(crate) fn drain(&self) {
        for one in &self.all {
            one.listener.drain();
        }
    }

    /// Stops all listeners, the last first. None can start afterwards.
    pub(crate) async fn stop(&self, grace: Duration) -> Shutdown {
        *self.stopped.lock().await = true;
        let mut cut = Shutdown::default();
        for one in self.all.iter().rev() {
            cut = cut + one.listener.stop(grace).await;
            one.started.store(false, Ordering::Release);
        }
        self.control.stop(grace).await;
        cut
    }
}

fn listening(endpoint: &EndpointName, listener: &dyn Listener, error: Error) -> ServeError {
    let listener = listener.name().to_owned();
    ServeError::Listener { endpoint: endpoint.clone(), listener, error }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use sinew_plane::{BoxFuture, Code, IncomingRequest, InstanceId, ResponseSink};

    use super::*;
    use crate::Config;

    /// Writes down which step was taken, and refuses to start as often as it is told.
    struct Recorder {
        name: &'static str,
        refusals: Mutex<usize>,
        steps: Arc<Mutex<Vec<String>>>,
    }

    impl Recorder {
        fn note(&self, step: &str) {
            self.steps.lock().push(format!("{step} {}", self.name));
        }
    }

    struct Noted(Arc<Mutex<Vec<String>>>);

    impl Announcement for Noted {
        fn leave(&self) -> BoxFuture<'_, ()> {
            Box::pin(async { self.0.lock().push("leave".to_owned()) })
        }
    }

    impl Listener for Recorder {
        fn name(&self) -> &str {
            self.name
        }

        fn start<'a>(
            &'a self,
            _: &'a CheckedConfig,
            _: Arc<dyn RequestHandler>,
        ) -> BoxFuture<'a, Result<(), Error>> {
            self.note("start");
            let mut refusals = self.refusals.lock();
            let refused = *refusals > 0;
            *refusals = refusals.saturating_sub(1);
            Box::pin(async move {
                if refused { Err(Error::new(Code::Exhausted, "taken")) } else { Ok(()) }
            })
        }

        fn announce<'a>(
            &'a self,
            declaration: &'a Declaration,
        ) -> BoxFuture<'a, Result<Option<Box<dyn Announcement>>, Error>> {
            self.note(&format!("announce {} at", declaration.endpoint));
            Box::pin(async { Ok(Some(Box::new(Noted(Arc::clone(&self.steps))) as _)) })
        }

        fn withdrawal_delay(&self) -> Duration {
            Duration::from_millis(self.name.len() as u64)
        }

        fn drain(&self) {
            self.note("drain");
        }

        fn stop(&self, _: Duration) -> BoxFuture<'_, Shutdown> {
            self.note("stop");
            Box::pin(async { Shutdown { cut_streams: 1, cut_tasks: 0 } })
        }
    }

    #[tokio::test]
    async fn each_listener_starts_once_and_all_stop_in_the_opposite_order() {
        let steps = Arc::<Mutex<Vec<String>>>::default();
        let recorder = |name, refusals| -> Arc<dyn Listener> {
            Arc::new(Recorder { name, refusals: Mutex::new(refusals), steps: Arc::clone(&steps) })
        };
        let listeners = Listeners::new(vec![recorder("a", 0), recorder("bb", 1)]);
        let config = Config::default().checked().unwrap();
        let endpoint: EndpointName = "a/b/c".parse().unwrap();
        let handler: Arc<dyn RequestHandler> =
            Arc::new(|_: IncomingRequest<'_>, sink: ResponseSink| sink.complete());

        let refused = listeners.start(&endpoint, &config, &handler).await.unwrap_err();
        let ServeError::Listener { listener, error, .. } = &refused else { panic!("{refused}") };
        assert_eq!((listener.as_str(), error.code()), ("bb", Code::Exhausted));
        assert_eq!(listeners.states(), [("a".to_owned(), true)]);
        listeners.start(&endpoint, &config, &handler).await.unwrap();
        listeners.start(&endpoint, &config, &handler).await.unwrap();
        let declaration =
            Declaration { endpoint: endpoint.clone(), instance: InstanceId(1), annotated: false };
        for one in listeners.announce(&declaration).await.unwrap() {
            one.leave().await;
        }
        assert_eq!(listeners.withdrawal_delay(), Duration::from_millis(2));
        listeners.drain();
        assert_eq!(listeners.stop(Duration::ZERO).await.cut_streams, 2);
        let late = listeners.start(&endpoint, &config, &handler).await;
        assert!(matches!(late, Err(ServeError::ShuttingDown { .. })), "{late:?}");
        assert_eq!(
            *steps.lock(),
            [
                "start a",
                "start bb",
                "start bb",
                "announce a/b/c at a",
                "announce a/b/c at bb",
                "leave",
                "leave",
                "drain a",
                "drain bb",
                "stop bb",
                "stop a"
            ]
        );
    }
}
