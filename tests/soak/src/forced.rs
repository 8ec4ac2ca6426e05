//! Moves all running streams of a caller to another transport, when it is told to.

use std::sync::{Mutex, PoisonError};

use sinew::{
    Client, Runtime,
    layers::plane::{TransportId, Way},
};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Tries for the streams of one worker: the connection that they are to go to may be cut.
const TRIES: usize = 20;

/// How many streams each move has moved.
#[derive(Debug, Default)]
pub(crate) struct Forced(Mutex<Vec<u64>>);

impl Forced {
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the name of a transport from each line of standard input, and moves the streams there.
    pub(crate) async fn follow(&self, runtime: &Runtime, client: &Client) {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let moved = move_all(runtime, client, &TransportId::new(line)).await;
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(moved);
        }
    }
}

async fn move_all(runtime: &Runtime, client: &Client, to: &TransportId) -> u64 {
    let registry = runtime.transports();
    let mut moved = 0;
    let Some(transport) = registry.duplex(to) else { return 0 };
    for instance in client.instances() {
        let (there, here): (Vec<_>, Vec<_>) =
            instance.addresses.iter().partition(|address| address.scheme() == to.as_str());
        let Some(address) = there.first() else { continue };
        let way = Way { transport: transport.clone(), address: (*address).clone() };
        for from in here {
            let Some(old) = registry.duplex(&TransportId::new(from.scheme())) else { continue };
            for _ in 0..TRIES {
                if let Ok(count) = old.move_streams(from, &way, usize::MAX).await {
                    moved += count as u64;
                    break;
                }
            }
        }
    }
    moved
}
