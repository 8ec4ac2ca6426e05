//! Checks whether the leases of removed entries still exist.
//!
//! If the lease of a removed entry exists, the entry was withdrawn. If not, the entry has expired
//! with its lease, or the lease was revoked.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::members::{Fault, Members};

/// Questions at once: a fleet whose leases all ended together has as many as it has workers.
const AT_ONCE: usize = 32;

/// What etcd says of each lease; those of which it says nothing are left out. Takes no longer than
/// the answers of two members may.
pub(super) async fn check_leases(
    members: &Arc<Members>,
    leases: impl IntoIterator<Item = i64>,
) -> BTreeMap<i64, bool> {
    let limit = Instant::now() + members.request_timeout() * 2;
    let mut waiting = leases.into_iter();
    let mut asked = JoinSet::new();
    let mut known = BTreeMap::new();
    loop {
        while asked.len() < AT_ONCE
            && let Some(lease) = waiting.next()
        {
            let members = Arc::clone(members);
            asked.spawn(async move { (lease, one_lives(&members, lease).await) });
        }
        let Ok(Some(answer)) = timeout_at(limit, asked.join_next()).await else { return known };
        match answer {
            Ok((lease, Ok(lives))) => drop(known.insert(lease, lives)),
            // Nobody answers the others either.
            Ok((_, Err(fault))) if fault.is_of_member() => return known,
            Ok((lease, Err(fault))) => tracing::debug!(lease, %fault, "lease not asked for"),
            Err(_) => return known,
        }
    }
}

async fn one_lives(members: &Members, lease: i64) -> Result<bool, Fault> {
    let asked =
        members.call(|mut client| async move { client.lease_time_to_live(lease, None).await });
    match asked.await {
        // -1 when there is none; 0 when it has run out and is about to go.
        Ok(answer) => Ok(answer.ttl() > 0),
        Err(fault) if fault.is_not_found() => Ok(false),
        Err(fault) => Err(fault),
    }
}
