//! How instances come and go: one after another under the same id, and at the shutdown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sinew::{
    Announcement, CheckedConfig, Code, Config, Declaration, DiscoverySource, Endpoint, Error,
    HandlerResult, InstanceId, Listener, Runtime, ServeError, Shutdown,
    layers::plane::{BoxFuture, RequestHandler},
};
use tokio::{sync::Semaphore, time::Instant};

const NAME: Endpoint<(), String> = Endpoint::new("text/names/own");
const ID: InstanceId = InstanceId(7);

/// Answers every request with that text.
fn named(
    text: &'static str,
) -> impl Fn(()) -> std::future::Ready<HandlerResult<String>> + Send + Sync {
    move |()| std::future::ready(Ok(text.to_owned()))
}

/// A listener that takes part in every step and brings no requests.
#[derive(Clone, Default)]
struct Witness(Arc<State>);

struct State {
    /// How many endpoints may be announced.
    announcing: Semaphore,
    refuses: AtomicBool,
    /// Never lets go of an endpoint.
    holds: AtomicBool,
    left: AtomicUsize,
    delay: Duration,
}

impl Default for State {
    fn default() -> Self {
        let announcing = Semaphore::new(1);
        let (refuses, holds, left) = Default::default();
        Self { announcing, refuses, holds, left, delay: Duration::ZERO }
    }
}

impl Listener for Witness {
    fn name(&self) -> &str {
        "witness"
    }

    fn start<'a>(
        &'a self,
        _: &'a CheckedConfig,
        _: Arc<dyn RequestHandler>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn announce<'a>(
        &'a self,
        _: &'a Declaration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Announcement>>, Error>> {
        Box::pin(async {
            self.0.announcing.acquire().await.unwrap().forget();
            if self.0.refuses.load(Ordering::Relaxed) {
                return Err(Error::new(Code::Exhausted, "no room for another one"));
            }
            Ok(Some(Box::new(self.clone()) as Box<dyn Announcement>))
        })
    }

    fn withdrawal_delay(&self) -> Duration {
        self.0.delay
    }

    fn stop(&self, _: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async { Shutdown::default() })
    }
}

impl Announcement for Witness {
    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if self.0.holds.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            self.0.left.fetch_add(1, Ordering::Relaxed);
        })
    }
}

async fn with(witness: &Witness) -> Runtime {
    let builder = Runtime::builder().discovery(DiscoverySource::Memory);
    builder.listener(witness.clone()).build().await.unwrap()
}

async fn answer(runtime: &Runtime) -> String {
    runtime.router(&NAME).call(()).instance(ID).unary().await.unwrap()
}

#[tokio::test]
async fn a_serve_that_fails_leaves_the_instance_with_its_id_alone() {
    let witness = Witness::default();
    let runtime = with(&witness).await;
    let _first = runtime.serve(&NAME, named("first")).instance(ID).await.unwrap();
    let ready = [(NAME.name(), ID, true)];
    witness.0.refuses.store(true, Ordering::Relaxed);
    let mut second =
        std::pin::pin!(runtime.serve(&NAME, named("second")).instance(ID).into_future());
    // It waits for the listener, and is not served in the place of the first.
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    assert_eq!(answer(&runtime).await, "first");
    assert_eq!(runtime.health().endpoints, ready);
    witness.0.announcing.add_permits(1);
    let error = second.await.unwrap_err();
    assert!(matches!(error, ServeError::Listener { .. }), "{error:?}");
    assert_eq!(answer(&runtime).await, "first");
    assert_eq!(runtime.health().endpoints, ready);
    assert!(runtime.health().is_ready());
}

#[tokio::test]
async fn a_later_instance_takes_the_place_of_an_earlier_with_its_id() {
    let witness = Witness::default();
    witness.0.announcing.add_permits(1);
    let runtime = with(&witness).await;
    let first = runtime.serve(&NAME, named("first")).instance(ID).await.unwrap();
    let second = runtime.serve(&NAME, named("second")).instance(ID).await.unwrap();
    assert_eq!(answer(&runtime).await, "second");
    first.drain().await;
    assert!(runtime.health().is_ready(), "{:?}", runtime.health());
    drop(first);
    assert_eq!(runtime.health().endpoints, [(NAME.name(), ID, true)]);
    assert_eq!(answer(&runtime).await, "second");
    drop(second);
    assert!(runtime.health().endpoints.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_the_listeners_let_go_of_each_endpoint_once() {
    let witness = Witness::default();
    witness.0.announcing.add_permits(1);
    let runtime = with(&witness).await;
    let other = Endpoint::<(), String>::new("text/names/other");
    let _other = runtime.serve(&other, named("other")).await.unwrap();
    let drained = runtime.serve(&NAME, named("first")).await.unwrap();
    drained.drain().await;
    assert_eq!(witness.0.left.load(Ordering::Relaxed), 1);
    runtime.shutdown(Duration::ZERO).await;
    assert_eq!(witness.0.left.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_no_listener_beyond_the_grace() {
    let hour = Duration::from_secs(3_600);
    let witness = Witness(Arc::new(State { delay: hour, ..State::default() }));
    witness.0.holds.store(true, Ordering::Relaxed);
    let runtime = with(&witness).await;
    let _served = runtime.serve(&NAME, named("first")).await.unwrap();
    let (began, grace) = (Instant::now(), Duration::from_secs(2));
    runtime.shutdown(grace).await;
    // What callers learn of the withdrawal in, and what the listener has to let go.
    let waited = began.elapsed();
    assert!(waited >= grace * 2 && waited < grace * 2 + Duration::from_secs(1), "{waited:?}");
}

#[tokio::test]
async fn a_grace_within_which_a_caller_may_not_notice_the_loss_is_refused() {
    let mut config = Config::default();
    config.tcp.driver.mux.resume_grace = Duration::from_secs(5);
    let refusal = config.checked().unwrap_err().to_string();
    assert!(refusal.contains("resume_grace") && refusal.contains("keepalive_timeout"), "{refusal}");
    let witness = Witness::default();
    witness.0.announcing.add_permits(2);
    let runtime = with(&witness).await;
    let serve = |secs| {
        runtime.serve(&NAME, named("one")).instance(ID).resume_grace(Duration::from_secs(secs))
    };
    let refusal = serve(5).await.unwrap_err();
    assert!(matches!(refusal, ServeError::Setting { .. }), "{refusal:?}");
    let refusal = refusal.to_string();
    assert!(refusal.contains("resume_grace") && refusal.contains("keepalive_timeout"), "{refusal}");
    for secs in [0, 60] {
        drop(serve(secs).await.unwrap());
    }
}
