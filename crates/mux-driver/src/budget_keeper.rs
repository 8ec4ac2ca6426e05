//! The task that relieves the memory budget: it wakes streams that wait for room, and ends streams
//! that hold memory for slow readers.

use std::{sync::Arc, time::Duration};

use sinew_plane::{Budget, clock};
use tokio_util::sync::CancellationToken;

/// How often a budget is looked at while somebody waits for room in it.
const PERIOD: Duration = Duration::from_millis(250);

/// Least time between two looks, however much is given back: each wakes all who find room.
const LEAST_PERIOD: Duration = Duration::from_millis(2);

/// Keeps the budget until `ending`: sleeps while nobody is refused anything.
pub(crate) async fn keep(budget: Arc<Budget>, ending: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = ending.cancelled() => return,
            () = budget.wanted() => {}
        }
        while budget.relieve(clock::now()) {
            tokio::select! {
                biased;
                () = ending.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
                () = async {
                    budget.wanted().await;
                    tokio::time::sleep(LEAST_PERIOD).await;
                } => {}
            }
        }
    }
}
