//! The memory budget of the process, as connections have to do with it: who waits is woken, and
//! the streams that hold it up are ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sinew_plane::{
    Budget, Error,
    budget::{Holder, Stalled},
    clock,
};
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;

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

impl Holder for Connection {
    fn stalled(&self, before: Instant, to: &mut Vec<Stalled>) {
        let streams = self.streams.lock();
        to.extend(streams.responses.values().filter_map(|response| response.stalled(before)));
    }

    fn end(&self, stream: u32, error: &Error) {
        let response = self.streams.lock().responses.get(&stream).cloned();
        if let Some(response) = response {
            response.evict(error);
        }
    }
}
