//! The policies of endpoints: one key for each, which stock Dynamo peers do not read.

use std::{sync::Arc, time::Duration};

use etcd_client::{Compare, CompareOp, EventType, PutOptions, Txn, TxnOp, WatchOptions};
use sinew_plane::EndpointName;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    BACKEND,
    lease::retries,
    members::{Fault, Members},
    probe::Probe,
};
use crate::{
    DiscoveryError, PlanePolicy,
    policy_board::PolicyBoard,
    policy_record::{PolicyReader, decode, encode},
};

/// What all keys begin with.
const PREFIX: &str = "sinew/policies";

/// Another process may write between the look and the write, which happens a few times at most.
const ROUNDS: usize = 8;

/// The key is read again this often, for the day on which a server loses an event; and then a watch
/// that nobody needs any more ends.
const READ_EVERY: Duration = Duration::from_secs(60);

fn key_of(endpoint: &EndpointName) -> String {
    format!("{PREFIX}/{endpoint}")
}

/// Stores a policy in the place of what is there. It goes with a lease of its own, so that nothing
/// of it is left when its time is over.
pub(super) async fn put(
    members: &Members,
    policy: PlanePolicy,
) -> Result<PlanePolicy, DiscoveryError> {
    policy.check()?;
    let Some(left) = policy.remaining() else {
        let reason = format!("a policy for {}: its time is over already", policy.endpoint);
        return Err(DiscoveryError::Invalid { reason });
    };
    let key = key_of(&policy.endpoint);
    let doing = |fault: Fault| fault.into_error(&format!("storing the policy {key}"));
    let seconds = left.as_secs().saturating_add(1).min(i64::MAX as u64) as i64;
    let granted = members.call(|mut client| async move { client.lease_grant(seconds, None).await });
    let lease = granted.await.map_err(doing)?.id();
    for _ in 0..ROUNDS {
        let looked = members.call(|mut client| {
            let key = key.clone();
            async move { client.get(key, None).await }
        });
        let mut found = looked.await.map_err(doing)?;
        let found = found.take_kvs().pop();
        let revision = found.as_ref().map_or(0, |found| found.mod_revision());
        let former = found.and_then(|found| decode(&policy.endpoint, found.value()).ok());
        let next = policy.clone().replacing(former.map(|former| former.version));
        let value = encode(&next);
        let written = members.call(|mut client| {
            let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, revision);
            let options = PutOptions::new().with_lease(lease);
            let put = TxnOp::put(key.clone(), value.clone(), Some(options));
            let txn = Txn::new().when([unchanged]).and_then([put]);
            async move { client.txn(txn).await }
        });
        if written.await.map_err(doing)?.succeeded() {
            return Ok(next);
        }
    }
    let what = format!("others keep changing the policy of {}: try again", policy.endpoint);
    Err(DiscoveryError::Unavailable { backend: BACKEND, what, source: None })
}

/// Removes the policy. False if there was none.
pub(super) async fn remove(
    members: &Members,
    endpoint: &EndpointName,
) -> Result<bool, DiscoveryError> {
    let key = key_of(endpoint);
    let removed = members.call(|mut client| {
        let key = key.clone();
        async move { client.delete(key, None).await }
    });
    let removed =
        removed.await.map_err(|fault| fault.into_error(&format!("removing the policy {key}")))?;
    Ok(removed.deleted() > 0)
}

/// Shows one endpoint's policy on the board for as long as somebody watches it.
pub(super) struct PolicyWatcher {
    members: Arc<Members>,
    board: Arc<PolicyBoard>,
    endpoint: EndpointName,
    reader: PolicyReader,
}

impl PolicyWatcher {
    pub(super) fn new(
        members: Arc<Members>,
        board: Arc<PolicyBoard>,
        endpoint: EndpointName,
    ) -> Self {
        Self { members, board, endpoint, reader: PolicyReader::default() }
    }

    pub(super) async fn run(mut self) {
        let mut retries = retries();
        let mut is_refused = false;
        loop {
            let begun = Instant::now();
            let followed = match self.read().await {
                Ok(revision) => self.watch(revision).await,
                Err(fault) => Err(fault),
            };
            if self.board.forget_unwatched(&self.endpoint) {
                return;
            }
            let was_refused = is_refused;
            is_refused = followed.as_ref().is_err_and(Fault::is_refusal);
            if let Err(fault) = followed {
                if is_refused && !was_refused {
                    tracing::warn!(
                        endpoint = %self.endpoint, %fault,
                        "its policy is not followed: the user needs the right to read {PREFIX}/"
                    );
                }
                tracing::debug!(endpoint = %self.endpoint, %fault, "its policy is not watched");
                sleep(retries.pause_after(begun.elapsed())).await;
            }
        }
    }

    /// Shows what is there, and says at which revision that was.
    async fn read(&mut self) -> Result<i64, Fault> {
        let asked = self.members.call(|mut client| {
            let key = key_of(&self.endpoint);
            async move { client.get(key, None).await }
        });
        let mut found = asked.await?;
        let revision = found.header().map_or(0, |header| header.revision());
        self.show(found.take_kvs().pop().as_ref().map(|found| found.value()));
        Ok(revision)
    }

    /// Shows what comes after the revision, until it is time to read again.
    async fn watch(&mut self, revision: i64) -> Result<(), Fault> {
        let opened = self.members.call_in_turn(|mut client| {
            let options = WatchOptions::new().with_start_revision(revision + 1);
            let key = key_of(&self.endpoint);
            async move { client.watch(key, Some(options)).await }
        });
        let (mut stream, turn) = opened.await?;
        let mut probe = Probe::new(self.members.request_timeout());
        let read_due = Instant::now() + READ_EVERY;
        loop {
            let message = tokio::select! {
                biased;
                message = probe.next(&mut stream) => message,
                () = sleep_until(read_due) => return Ok(()),
            };
            let message = message.inspect_err(|fault| {
                if fault.is_of_member() {
                    self.members.give_up(turn, probe.asked());
                }
            })?;
            for event in message.events() {
                match (event.event_type(), event.kv()) {
                    (EventType::Put, Some(kv)) => self.show(Some(kv.value())),
                    _ => self.show(None),
                }
            }
            if message.canceled() || message.compact_revision() > 0 {
                return Err(Fault::answer(format!("cancelled: {}", message.cancel_reason())));
            }
        }
    }

    fn show(&mut self, value: Option<&[u8]>) {
        let policy = value.and_then(|value| self.reader.read(&self.endpoint, value));
        self.board.show(&self.endpoint, policy);
    }
}
