//! Deadlines travel with their request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sinew_plane::{Code, Context, Executed, clock};

use crate::{Harness, handlers::spawned, reports, request};

/// How far the two ends may disagree: a deadline travels as time left, so the way adds to it.
/// One second is a way over two busy cores.
const TOLERANCE: Duration = Duration::from_secs(1);

/// The handler's deadline is the caller's, neither much earlier nor much later.
pub async fn the_handler_gets_the_deadline(harness: &dyn Harness) {
    let (reporter, mut seen) = reports();
    let handler = spawned(move |call| {
        let reporter = reporter.clone();
        async move {
            reporter.tell(call.context.deadline());
            call.sink.complete();
        }
    });
    let served = harness.serve(handler).await;
    for seconds in [20, 3600, 1_000_000] {
        let deadline = clock::now() + Duration::from_secs(seconds);
        let context = Context::builder().deadline(deadline).build();
        served.call(request("").with_context(context)).await.complete();
        let got = seen.next("the deadline").await;
        let Some(got) = got else { panic!("the deadline of {seconds} s did not arrive") };
        let apart = got.max(deadline) - got.min(deadline);
        assert!(apart < TOLERANCE, "the ends disagree by {apart:?} over {seconds} s");
    }
}

/// A request without a deadline has none at the handler.
pub async fn no_deadline_stays_none(harness: &dyn Harness) {
    let handler = spawned(|call| async move {
        match call.context.deadline() {
            None => call.sink.complete(),
            Some(_) => call.sink.fail(sinew_plane::Error::handler("there is a deadline")),
        }
    });
    let served = harness.serve(handler).await;
    served.call(request("")).await.complete();
}

/// A request that is late before it is sent is refused and does not run.
pub async fn a_passed_deadline_runs_nothing(harness: &dyn Harness) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let handler = spawned(move |call| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { call.sink.complete() }
    });
    let served = harness.serve(handler).await;
    let late = Context::builder().deadline(clock::now()).build();
    let error = served.refusal(request("").with_context(late)).await;
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
    assert_eq!(error.executed(), Executed::No);
    assert!(!error.is_safe_to_resend(), "it would be late again");

    served.call(request("")).await.complete();
    assert_eq!(runs.load(Ordering::Relaxed), 1, "the late request ran");
}
