//! Many at once.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use sinew_ingress::{Drained, PushHandler};
use sinew_plane::{Context, Error, SingleIn, Terminal, engine_fn};

use crate::support::{Consumer, Fixture, NAME};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_concurrent_requests_get_their_own_answers() {
    let fixture = Fixture::new();
    let engine = engine_fn(|request: SingleIn<u32>| async move {
        let base = *request.data() * 100;
        Ok::<_, Error>(stream::iter(0..20_u32).then(move |n| async move {
            // Pauses in the middle, so that all requests are in flight together.
            tokio::task::yield_now().await;
            Ok(base + n)
        }))
    });
    let served = fixture.serve(PushHandler::new(engine));
    let calls: Vec<_> = (0..1_000_u32)
        .map(|n| {
            // Every third meets a small window, every fourth a deadline that it keeps.
            let credit = if n % 3 == 0 { 5 } else { usize::MAX };
            let context = Context::builder();
            let context =
                if n % 4 == 0 { context.timeout(Duration::from_secs(600)) } else { context };
            let consumer = Consumer::new(credit, context.build());
            (n, fixture.send(NAME, 1, n.to_string(), consumer))
        })
        .collect();
    for (n, call) in calls {
        if n % 3 == 0 {
            call.until(|state| state.seen == 5).await;
            call.grant(15);
        }
        assert!(matches!(call.end().await, Terminal::Complete { items: 20 }), "{n}");
        let expected: Vec<_> = (0..20).map(|item| (n * 100 + item).to_string()).collect();
        assert_eq!(call.texts(), expected);
    }
    assert_eq!(served.in_flight(), 0);
    assert_eq!(fixture.metric("ingress_requests_total", ""), 1_000);
    fixture.assert_idle();
    assert_eq!(fixture.ingress.shutdown(Duration::from_secs(60)).await, Drained::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_cancels_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let engine = engine_fn(|_: SingleIn<u32>| async {
        Ok::<_, Error>(stream::repeat_with(|| Ok(1_u32)).then(|item| async move {
            tokio::task::yield_now().await;
            item
        }))
    });
    let _served = fixture.serve(PushHandler::new(engine));
    let calls: Vec<_> = (0..500).map(|n: u32| fixture.call(n.to_string())).collect();
    for (n, call) in calls.iter().enumerate() {
        if n % 2 == 0 { call.context.stop() } else { call.context.kill() }
    }
    for call in calls {
        assert!(matches!(call.end().await, Terminal::Cancelled { .. }));
    }
    fixture.assert_idle();
}
