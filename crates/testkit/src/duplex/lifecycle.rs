//! Servers and clients come and go in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use sinew_plane::{
    Code, Directions, Executed, RequestHandler, ResponseStream, Shutdown, TransportRequirements,
};
use tokio::sync::Notify;

use crate::{
    Cut, Harness, PATIENCE, Received, Served,
    handlers::{counting, echo, spawned},
    harness::refusal,
    payload::numbered,
    request, within,
};

/// A grace that no case that passes uses up: it is over when a case would fail.
const AMPLE: Duration = PATIENCE;

/// Sends one item, then a second when the gate opens, then completes. Counts its runs.
struct Gated {
    handler: Arc<dyn RequestHandler>,
    gate: Arc<Notify>,
    runs: Arc<AtomicUsize>,
}

fn gated() -> Gated {
    let (gate, runs) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (opened, counted) = (Arc::clone(&gate), Arc::clone(&runs));
    let handler = spawned(move |mut call| {
        counted.fetch_add(1, Ordering::Relaxed);
        let gate = Arc::clone(&opened);
        async move {
            if call.sink.send("before".into()).await.is_err() {
                return;
            }
            gate.notified().await;
            if call.sink.send("after".into()).await.is_ok() {
                call.sink.complete();
            }
        }
    });
    Gated { handler, gate, runs }
}

async fn running(served: &Served) -> ResponseStream {
    let mut stream = served.open(request("")).await;
    let first = within("the first item", stream.next()).await;
    assert_eq!(first.map(Result::ok), Some(Some("before".into())));
    stream
}

/// The address is the client's to dial, and the capabilities are those of a response transport.
pub async fn the_address_and_the_capabilities_fit(harness: &dyn Harness) {
    let served = harness.serve(echo()).await;
    // A server may listen in more ways than this client's transport understands.
    let mut addresses = served.server.addresses();
    addresses.retain(|address| served.client.dials(address));
    assert!(addresses.contains(&served.address), "{} is not among {addresses:?}", served.address);
    for address in addresses {
        let answer = within("a stream", served.client.open(&address, request("x"))).await;
        let Ok(mut stream) = answer else { panic!("{address}: {answer:?}") };
        assert_eq!(Received::read(&mut stream).await.complete(), ["x"]);
    }
    if let Ok(foreign) = "no-such-scheme://somewhere".parse() {
        assert!(!served.client.dials(&foreign));
        let error = refusal(&*served.client, &foreign, request("")).await;
        assert_eq!(error.executed(), Executed::No, "{error:?}");
    }
    let capabilities = served.client.capabilities();
    assert!(capabilities.directions >= Directions::Respond);
    assert!(capabilities.satisfy(&TransportRequirements::default()));
}

/// If no server listens at the address, a call fails soon with an error that it could not connect,
/// and the request is safe to send to another instance.
pub async fn nobody_there_fails_fast_and_safely(harness: &dyn Harness) {
    let client = harness.client();
    let tries = async {
        for _ in 0..3 {
            let error = refusal(&*client, &harness.nowhere(), request("")).await;
            let connecting = matches!(error.code(), Code::ConnectFailed | Code::ConnectTimedOut);
            assert!(connecting && error.is_safe_to_resend(), "{error:?}");
        }
    };
    within("three refusals in a row", tries).await;
}

/// New streams are refused without harm, the ones that run end as if nothing were.
pub async fn a_draining_server_refuses_and_finishes(harness: &dyn Harness) {
    let Gated { handler, gate, runs } = gated();
    let served = harness.serve(handler).await;
    let mut stream = running(&served).await;
    served.server.drain();
    for client in [Arc::clone(&served.client), harness.client()] {
        let error = refusal(&*client, &served.address, request("")).await;
        assert!(error.is_safe_to_resend(), "{error:?}");
    }
    assert_eq!(runs.load(Ordering::Relaxed), 1, "a refused request ran");
    gate.notify_one();
    assert_eq!(Received::read(&mut stream).await.items, ["after"]);
    assert_eq!(stream.outcome().map(|outcome| outcome.as_str()), Some("complete"));
}

/// Within the grace nothing is cut, and the shutdown ends with the last stream.
pub async fn a_shutdown_waits_for_what_runs(harness: &dyn Harness) {
    let Gated { handler, gate, .. } = gated();
    let served = harness.serve(handler).await;
    let mut stream = running(&served).await;
    let mut shutdown = served.server.shutdown(AMPLE);
    assert!(futures_util::poll!(&mut shutdown).is_pending(), "a stream still runs");
    gate.notify_one();
    let reading = Received::read(&mut stream);
    let (cut, received) = within("the shutdown", async { tokio::join!(shutdown, reading) }).await;
    assert_eq!(cut.cut_streams, 0);
    assert_eq!(received.items, ["after"]);
    assert_eq!(received.outcome.as_str(), "complete");
}

/// Past the grace the rest is cut and counted.
pub async fn a_shutdown_cuts_what_outlives_the_grace(harness: &dyn Harness) {
    let served = harness.serve(gated().handler).await;
    let mut streams = [running(&served).await, running(&served).await];
    let shutdown = served.server.shutdown(Duration::from_millis(20));
    let cut = within("the shutdown", shutdown).await;
    assert_eq!(cut.cut_streams, 2);
    for stream in &mut streams {
        let received = Received::read(stream).await;
        assert_eq!(received.outcome.as_str(), "truncated", "{:?}", received.error);
    }
}

/// With a long grace too: there is nothing to wait for.
pub async fn an_idle_shutdown_is_quick_and_may_be_repeated(harness: &dyn Harness) {
    let served = harness.serve(echo()).await;
    served.call(request("x")).await.complete();
    for _ in 0..2 {
        // Far beyond what a case waits: an idle server that waits the grace out fails here.
        let shutdown = served.server.shutdown(Duration::from_secs(3600));
        assert_eq!(within("an idle shutdown", shutdown).await, Shutdown::default());
    }
}

/// A server that has shut down serves neither clients that were connected nor new ones.
pub async fn nothing_is_served_after_a_shutdown(harness: &dyn Harness) {
    let Gated { handler, runs, .. } = gated();
    let served = harness.serve(handler).await;
    drop(running(&served).await);
    within("the shutdown", served.server.shutdown(Duration::ZERO)).await;
    for client in [Arc::clone(&served.client), harness.client()] {
        let error = refusal(&*client, &served.address, request("")).await;
        assert!(error.is_safe_to_resend(), "{error:?}");
    }
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

/// A client that closes cuts the streams that are left after the grace, and returns their number.
/// The caller reads its stream as truncated, the handler's context is killed, and the client opens
/// no further streams.
pub async fn a_closed_client_cuts_what_outlives_the_grace(harness: &dyn Harness) {
    let cancelled = Arc::new(Notify::new());
    let heard = Arc::clone(&cancelled);
    let handler = spawned(move |mut call| {
        let heard = Arc::clone(&heard);
        async move {
            if call.sink.send("before".into()).await.is_ok() {
                call.context.killed().await;
                heard.notify_one();
            }
        }
    });
    let served = harness.serve(handler).await;
    let mut stream = running(&served).await;
    let cut = within("the close", served.client.close(Duration::ZERO)).await;
    assert_eq!(cut.cut_streams, 1);
    assert_eq!(Received::read(&mut stream).await.outcome.as_str(), "truncated");
    within("the handler to hear of the loss", cancelled.notified()).await;
    let error = served.refusal(request("")).await;
    assert_eq!(error.executed(), Executed::No, "{error:?}");
}

/// Within the grace nothing is cut.
pub async fn a_closing_client_waits_for_what_runs(harness: &dyn Harness) {
    let Gated { handler, gate, .. } = gated();
    let served = harness.serve(handler).await;
    let mut stream = running(&served).await;
    let mut close = served.client.close(AMPLE);
    assert!(futures_util::poll!(&mut close).is_pending(), "a stream still runs");
    gate.notify_one();
    let reading = Received::read(&mut stream);
    let (cut, received) = within("the close", async { tokio::join!(close, reading) }).await;
    assert_eq!((cut.cut_streams, received.outcome.as_str()), (0, "complete"));
    assert_eq!(received.items, ["after"]);
}

/// Its capabilities say whether streams outlive their connections, and what they say is true.
pub async fn a_transport_that_says_that_it_resumes_does(harness: &dyn Harness) {
    let resumes = |served: &Served| served.client.capabilities().resumable;
    let plain = harness.serve(counting()).await;
    let Some(resuming) = harness.serve_resuming(counting()) else {
        assert!(
            !resumes(&plain),
            "it says that it resumes, and its harness has no `serve_resuming`"
        );
        return;
    };
    let (served, way) = resuming.await;
    assert!(
        resumes(&served),
        "its harness has `serve_resuming`, and it says that it does not resume"
    );
    let mut stream = served.open(request("2000")).await;
    let first = within("the first item", stream.next()).await;
    assert_eq!(first.map(Result::ok), Some(Some(numbered(0))));
    way.cut(Cut::Fin);
    assert_eq!(Received::read(&mut stream).await.complete().len(), 1_999);
}
