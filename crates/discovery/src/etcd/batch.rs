//! Several entries in one request.
//!
//! A process that serves thousands of endpoints writes, checks and removes its entries in a few
//! dozen requests. etcd performs a request completely or not at all. If it does not, each entry of
//! the request is handled by itself.

use std::{collections::HashSet, sync::Arc};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};

use super::{
    entry::{Entry, Placed},
    members::{Fault, Members},
};

/// Entries in one request. etcd takes 128 conditions by default, and there are up to two for each.
const ENTRIES: usize = 64;

/// Bytes of entries in one request; etcd takes 1.5 MiB by default.
const BYTES: usize = 512 << 10;

/// What is to be done with entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// To put them there under a lease.
    Place { lease: i64 },
    /// To see that they stand there under a lease, as they did.
    Audit { lease: i64 },
    /// To take them away.
    Remove,
}

/// What came of it, for one of them.
pub(super) enum Outcome {
    Placed(Result<Placed, Fault>),
    Removed(Result<(), Fault>),
}

/// Entries with one task, each with the token of its claim.
pub(super) struct Batch {
    task: Task,
    entries: Vec<(u64, Arc<Entry>)>,
}

impl Batch {
    /// Puts work together as it comes. No key comes twice in one batch, which etcd would refuse.
    pub(super) fn of(work: impl IntoIterator<Item = (u64, Arc<Entry>, Task)>) -> Vec<Self> {
        let mut batches: Vec<Self> = Vec::new();
        let (mut names, mut bytes) = (HashSet::new(), 0);
        for (token, entry, task) in work {
            bytes += entry.name.len() + entry.value.len();
            let fits = batches.last().is_some_and(|last| {
                last.task == task && last.entries.len() < ENTRIES && bytes <= BYTES
            });
            if !fits || names.contains(&entry.name) {
                batches.push(Self { task, entries: Vec::new() });
                names.clear();
                bytes = entry.name.len() + entry.value.len();
            }
            names.insert(entry.name.clone());
            if let Some(last) = batches.last_mut() {
                last.entries.push((token, entry));
            }
        }
        batches
    }

    /// Does it, in one request if that goes.
    pub(super) async fn run(self, members: &Members) -> Vec<(u64, Outcome)> {
        if self.entries.len() > 1 {
            match self.at_once(members).await {
                Ok(Some(revision)) => return self.all(|| self.done(revision)),
                // Another member would not answer either.
                Err(fault) if fault.is_of_member() => {
                    return self.all(|| self.failed(fault.clone()));
                }
                // Not all as expected, or not at all allowed: each has a fate of its own.
                Ok(None) | Err(_) => {}
            }
        }
        let mut outcomes = Vec::with_capacity(self.entries.len());
        for (token, entry) in &self.entries {
            let outcome = match self.task {
                Task::Place { lease } | Task::Audit { lease } => {
                    Outcome::Placed(entry.place(members, lease).await)
                }
                Task::Remove => Outcome::Removed(entry.remove(members).await),
            };
            let is_lost = outcome.is_of_member();
            outcomes.push((*token, outcome));
            if is_lost {
                // Asking for each of the rest would take as long again.
                break;
            }
        }
        for (token, _) in self.entries.iter().skip(outcomes.len()) {
            outcomes.push((*token, self.failed(Fault::of_member("not asked"))));
        }
        outcomes
    }

    /// All in one request: the revision at which it was done, `None` when it was not.
    async fn at_once(&self, members: &Members) -> Result<Option<i64>, Fault> {
        let asked = members.call(|mut client| {
            let txn = self.txn();
            async move { client.txn(txn).await }
        });
        let answer = asked.await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        Ok(answer.succeeded().then_some(revision))
    }

    fn txn(&self) -> Txn {
        let (mut conditions, mut steps) = (Vec::new(), Vec::new());
        for (_, entry) in &self.entries {
            let (name, value) = (entry.name.clone(), entry.value.clone());
            match self.task {
                Task::Place { lease } => {
                    conditions.push(Compare::version(name.clone(), CompareOp::Equal, 0));
                    let options = PutOptions::new().with_lease(lease);
                    steps.push(TxnOp::put(name, value, Some(options)));
                }
                Task::Audit { lease } => {
                    conditions.push(Compare::value(name.clone(), CompareOp::Equal, value));
                    conditions.push(Compare::lease(name, CompareOp::Equal, lease));
                }
                Task::Remove => {
                    conditions.push(Compare::value(name.clone(), CompareOp::Equal, value));
                    steps.push(TxnOp::delete(name, None));
                }
            }
        }
        Txn::new().when(conditions).and_then(steps)
    }

    fn all(&self, outcome: impl Fn() -> Outcome) -> Vec<(u64, Outcome)> {
        self.entries.iter().map(|(token, _)| (*token, outcome())).collect()
    }

    fn done(&self, revision: i64) -> Outcome {
        match self.task {
            Task::Place { .. } | Task::Audit { .. } => {
                Outcome::Placed(Ok(Placed::Held { revision }))
            }
            Task::Remove => Outcome::Removed(Ok(())),
        }
    }

    fn failed(&self, fault: Fault) -> Outcome {
        match self.task {
            Task::Place { .. } | Task::Audit { .. } => Outcome::Placed(Err(fault)),
            Task::Remove => Outcome::Removed(Err(fault)),
        }
    }
}

impl Outcome {
    fn is_of_member(&self) -> bool {
        match self {
            Self::Placed(Err(fault)) | Self::Removed(Err(fault)) => fault.is_of_member(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Instance,
        record::{self, Record},
    };

    fn entry(id: u64, bytes: usize) -> Arc<Entry> {
        let here = vec!["tcp://10.0.0.7:9001".parse().unwrap()];
        let instance = Instance::new("a/b/c".parse().unwrap(), id.into(), here);
        let key = instance.key();
        let record = Record { instance, owner: None };
        let mut value = record::encode(&record).unwrap();
        value.resize(bytes.max(value.len()), b' ');
        Arc::new(Entry { name: Entry::name_of(&key), key, record, value, former: None })
    }

    fn sizes(work: Vec<(Arc<Entry>, Task)>) -> Vec<usize> {
        let work = work.into_iter().map(|(entry, task)| (0, entry, task));
        Batch::of(work).iter().map(|batch| batch.entries.len()).collect()
    }

    #[test]
    fn two_thousand_entries_are_a_few_dozen_requests() {
        let place = Task::Place { lease: 7 };
        let batches = sizes((0..2000).map(|id| (entry(id, 0), place)).collect());
        assert_eq!(batches.iter().sum::<usize>(), 2000);
        assert_eq!(batches.len(), 2000_usize.div_ceil(ENTRIES));
    }

    #[test]
    fn a_request_has_one_task_each_key_once_and_no_more_than_etcd_takes() {
        let (place, remove) = (Task::Place { lease: 7 }, Task::Remove);
        let tasks = [place, place, remove, place];
        let mixed = tasks.iter().enumerate().map(|(id, task)| (entry(id as u64, 0), *task));
        assert_eq!(sizes(mixed.collect()), [2, 1, 1]);
        assert_eq!(sizes([1, 2, 1].map(|id| (entry(id, 0), place)).into()), [2, 1]);
        let large = (0..20).map(|id| (entry(id, 64 << 10), place));
        assert_eq!(sizes(large.collect()).into_iter().max(), Some(7), "of 64 KiB each");
    }
}
