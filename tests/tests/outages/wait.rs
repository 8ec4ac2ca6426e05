//! Waiting for what is to happen, and no longer than a failure takes to be called one.

use std::time::Duration;

use tokio::time::{interval, timeout};

/// Failure guard of every wait: long enough for a machine that does much else.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Between two questions after something that has no event of its own.
const PAUSE: Duration = Duration::from_millis(10);

/// Fails the test when `future` takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("waited {LIMIT:?} for {what}"))
}

/// Asks again and again until the answer is yes.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut pace = interval(PAUSE);
    soon(what, async {
        while !is_so().await {
            pace.tick().await;
        }
    })
    .await;
}
