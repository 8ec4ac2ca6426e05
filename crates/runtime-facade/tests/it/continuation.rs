//! Responses that go on at another instance, and what each of their runs has used.

use bytes::Bytes;
use sinew::{
    Continuation, DiscoverySource, Endpoint, Headers, Migrated, Runtime, Served, push_engine_fn,
};
use tokio::time::timeout;

use crate::support::GUARD;

const COUNT: Endpoint<String, String> = Endpoint::new("tests/continuation/count");
const ITEMS: u64 = 6;

/// Counts to six and says with each number how many it has made. Stops behind `most` of them until
/// it is killed.
async fn count(runtime: &Runtime, most: u64) -> Served {
    let engine = push_engine_fn(move |request, mut sink| {
        let (_, context) = request.into_parts();
        tokio::spawn(async move {
            for number in 0..ITEMS {
                if number == most {
                    return context.killed().await;
                }
                let mut facts = Headers::new();
                facts.insert("tokens", &(number + 1).to_string()).unwrap();
                sink.set_facts(facts);
                sink.send(Bytes::from(number.to_string())).await.unwrap();
            }
            sink.complete();
        });
        Ok(())
    });
    let serving = runtime.serve_named(COUNT.name()).continuation(Continuation::Replayable);
    serving.push_engine(engine).await.unwrap()
}

#[tokio::test]
async fn what_a_run_has_used_that_was_handed_over_is_summed_apart() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let source = DiscoverySource::File(folder.path().to_owned());
        Runtime::builder().discovery(source).build()
    };
    let workers = [start().await.unwrap(), start().await.unwrap()];
    let caller = start().await.unwrap();
    let first = count(&workers[0], 3).await;
    let router = caller.router(&COUNT);
    router.wait_for_instances(GUARD).await.unwrap();
    let mut response = router.call("").await.unwrap();
    let mut next =
        async || timeout(GUARD, futures_util::StreamExt::next(&mut response)).await.unwrap();
    for number in 0..3 {
        assert_eq!(next().await.unwrap().unwrap(), number.to_string());
    }
    let second = count(&workers[1], ITEMS).await;
    let drained = first.drain().await;
    assert_eq!(drained.handed_over_streams, 1, "{drained}");
    for number in 3..ITEMS {
        assert_eq!(next().await.unwrap().unwrap(), number.to_string());
    }
    assert!(next().await.is_none());
    assert_eq!(response.facts().get("tokens"), Some("6"), "those of the last run");
    let migrations = response.migrations();
    assert_eq!(migrations[0].facts.get("tokens"), Some("3"));
    assert_eq!(Migrated::sum_of(&migrations, "tokens"), 3);
    assert_eq!(Migrated::sum_of(&migrations, "other"), 0);
    drop(second);
    assert!(caller.shutdown(GUARD).await.is_clean());
}
