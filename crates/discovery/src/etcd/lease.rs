//! The lease of this process, which all its entries have.

use std::{sync::Arc, time::Duration};

use sinew_plane::{Backoff, Jitter, Retries};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::members::{Fault, Members};

/// Between two tries at a cluster that does not answer.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Longest wait for a lease to be given back: two members that hang. It ends by itself anyway.
const REVOKE_LIMIT: Duration = Duration::from_secs(4);

pub(super) fn retries() -> Retries {
    Retries::new(Backoff::exponential(FIRST_PAUSE, LONGEST_PAUSE).with_jitter(Jitter::Half))
}

/// Takes a lease when one is needed, keeps it, and takes another when it is lost.
pub(super) struct LeaseKeeper {
    members: Arc<Members>,
    ttl_seconds: i64,
    /// The lease that holds now, as far as we know.
    state: watch::Sender<Option<i64>>,
    signals: Arc<Signals>,
}

/// What others tell the keeper.
#[derive(Default)]
pub(super) struct Signals {
    /// The first registration is there.
    pub(super) is_needed: Notify,
    /// Something says that the lease may be gone.
    pub(super) is_doubted: Notify,
}

impl LeaseKeeper {
    pub(super) fn new(members: Arc<Members>, ttl_seconds: i64, signals: Arc<Signals>) -> Self {
        Self { members, ttl_seconds, state: watch::Sender::default(), signals }
    }

    pub(super) fn state(&self) -> watch::Receiver<Option<i64>> {
        self.state.subscribe()
    }

    /// Works until it is dropped.
    pub(super) async fn run(&self) {
        self.signals.is_needed.notified().await;
        loop {
            let (id, ttl) = self.grant().await;
            tracing::debug!(lease = format_args!("{id:x}"), ?ttl, "lease granted");
            self.state.send_replace(Some(id));
            self.keep(id, ttl).await;
            tracing::warn!(lease = format_args!("{id:x}"), "lease lost: registering again");
            self.state.send_replace(None);
        }
    }

    async fn grant(&self) -> (i64, Duration) {
        let mut retries = retries();
        loop {
            let asked = self
                .members
                .call(|mut client| async move { client.lease_grant(self.ttl_seconds, None).await });
            match asked.await {
                // A lease whose answer got lost ends by itself.
                Ok(granted) => return (granted.id(), seconds(granted.ttl())),
                // Told once by the members, for everything that is asked of them.
                Err(fault) if fault.is_of_member() => tracing::debug!(%fault, "no lease"),
                // At most one line per pause.
                Err(fault) => {
                    tracing::warn!(%fault, "etcd refuses a lease: nothing can be registered");
                }
            }
            sleep(retries.pause()).await;
        }
    }

    /// Renews the lease until etcd says that it is gone. Whoever cannot reach etcd does not know
    /// that, and etcd, when it comes back, gives old leases their whole time again.
    async fn keep(&self, id: i64, ttl: Duration) {
        let mut retries = retries();
        let mut pause = ttl / 3;
        loop {
            // Early when somebody doubts.
            let _ = timeout(pause, self.signals.is_doubted.notified()).await;
            match self.renew(id).await {
                Ok(()) => {
                    retries.reset();
                    pause = ttl / 3;
                }
                Err(fault) if fault.is_not_found() => return,
                Err(fault) => {
                    tracing::debug!(%fault, "lease not renewed");
                    pause = retries.pause().min(ttl / 3);
                }
            }
        }
    }

    /// One question, one answer: the stream that etcd wants for it would only hide a member that
    /// hangs.
    async fn renew(&self, id: i64) -> Result<(), Fault> {
        let asked = self
            .members
            .call(|mut client| async move { client.lease_keep_alive(id).await.map(drop) });
        asked.await
    }

    /// Gives the lease back, and with it everything that stands under it.
    pub(super) async fn revoke(&self) {
        let Some(id) = *self.state.borrow() else { return };
        let asked =
            self.members.call(|mut client| async move { client.lease_revoke(id).await.map(drop) });
        let in_time = timeout(REVOKE_LIMIT, asked).await;
        match in_time.unwrap_or_else(|_| Err(Fault::of_member("no answer in time"))) {
            Err(fault) if !fault.is_not_found() => {
                tracing::warn!(%fault, "lease not revoked: its entries end with it");
            }
            _ => drop(self.state.send_replace(None)),
        }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0).max(1))
}
