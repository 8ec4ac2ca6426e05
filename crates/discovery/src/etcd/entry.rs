//! One entry of this process in etcd: how it is written, checked and removed.

use etcd_client::{
    Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::members::{Fault, Members};
use crate::{
    InstanceKey, host_id, process,
    record::{self, Record},
};

/// A key can change between a look and the write that follows it; every such round means that
/// somebody else wrote, which two owners of one key do a few times at most.
const ROUNDS: usize = 8;

/// What is to stand in etcd.
pub(super) struct Entry {
    pub(super) key: InstanceKey,
    pub(super) name: Vec<u8>,
    pub(super) record: Record,
    pub(super) value: Vec<u8>,
    /// What a former registration of this process stands as under the key.
    pub(super) former: Option<Vec<u8>>,
}

/// What came of putting it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// It stands there, with our lease, since this revision at the latest.
    Held { revision: i64 },
    /// Somebody else's stands there.
    Taken,
}

impl Entry {
    /// The key in etcd.
    pub(super) fn name_of(key: &InstanceKey) -> Vec<u8> {
        format!("{}/{}", record::BUCKET, record::key(key)).into_bytes()
    }

    /// Puts the entry there under `lease`, unless another process's is there. Doing it twice does
    /// no harm.
    pub(super) async fn place(&self, members: &Members, lease: i64) -> Result<Placed, Fault> {
        let mut unless = Compare::version(self.name.clone(), CompareOp::Equal, 0);
        for _ in 0..ROUNDS {
            let answer = self.put_if(members, unless, lease).await?;
            let revision = answer.header().map_or(0, |header| header.revision());
            if answer.succeeded() {
                return Ok(Placed::Held { revision });
            }
            let Some(found) = found_by(&answer) else {
                // Gone since the look before.
                unless = Compare::version(self.name.clone(), CompareOp::Equal, 0);
                continue;
            };
            if found.value() == self.value && found.lease() == lease {
                return Ok(Placed::Held { revision });
            }
            if !self.may_replace(found.value()) {
                return Ok(Placed::Taken);
            }
            let (name, seen) = (self.name.clone(), found.mod_revision());
            unless = Compare::mod_revision(name, CompareOp::Equal, seen);
        }
        Err(Fault::answer("others keep changing the key"))
    }

    /// Puts it there, or else looks at what stands there.
    async fn put_if(
        &self,
        members: &Members,
        condition: Compare,
        lease: i64,
    ) -> Result<TxnResponse, Fault> {
        let (name, value) = (&self.name, &self.value);
        let asked = members.call(|mut client| {
            let options = PutOptions::new().with_lease(lease);
            let put = TxnOp::put(name.clone(), value.clone(), Some(options));
            let look = TxnOp::get(name.clone(), None);
            let txn = Txn::new().when([condition.clone()]).and_then([put]).or_else([look]);
            async move { client.txn(txn).await }
        });
        asked.await
    }

    /// True for what this process wrote, now or under a former lease, and for what a process of
    /// this host wrote that has ended.
    fn may_replace(&self, value: &[u8]) -> bool {
        if value == self.value || self.former.as_deref() == Some(value) {
            return true;
        }
        let Ok(found) = record::decode(&self.key, value) else { return false };
        let is_here = found.instance.host.is_some() && found.instance.host == host_id();
        found.is_of_same_process(&self.record)
            || (is_here && found.owner.is_some_and(process::has_ended))
    }

    /// Takes the entry away if it is still ours.
    pub(super) async fn remove(&self, members: &Members) -> Result<(), Fault> {
        let asked = members.call(|mut client| {
            let is_ours = Compare::value(self.name.clone(), CompareOp::Equal, self.value.clone());
            let delete = TxnOp::delete(self.name.clone(), None);
            let txn = Txn::new().when([is_ours]).and_then([delete]);
            async move { client.txn(txn).await.map(drop) }
        });
        asked.await
    }
}

fn found_by(answer: &TxnResponse) -> Option<KeyValue> {
    answer.op_responses().into_iter().find_map(|one| match one {
        TxnOpResponse::Get(mut found) => found.take_kvs().pop(),
        _ => None,
    })
}
