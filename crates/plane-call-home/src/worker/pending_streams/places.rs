//! The places for streams that wait for their requests, shared among the callers.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use sinew_dynamo_wire::Subject;

use super::PendingStream;

/// PendingStreams that wait for their requests. A caller asks when it sends the request, so this is
/// what may be under way between the two planes; each costs about 1 KiB.
pub(super) const MAX_QUESTIONS: usize = 16_384;

/// PendingStreams of one caller: as many as the requests that a worker has under way to all of its
/// callers.
pub(super) const MAX_PER_CALLER: usize = MAX_QUESTIONS / 4;

/// PendingStreams by subject, and by the age that they have among those of their caller.
#[derive(Default)]
pub(super) struct Places {
    asked: FxHashMap<Subject, PendingStream>,
    callers: FxHashMap<SocketAddr, Share>,
}

/// The places of one caller.
#[derive(Default)]
struct Share {
    taken: usize,
    /// Its questions by age; those that were taken are still in it.
    ages: VecDeque<(Instant, Subject)>,
}

impl Places {
    /// Takes a place for a question of which there is none. Returns what has to go: the question
    /// itself when its caller has as many as one may have; or, when all places are taken, the
    /// oldest one of the caller that has the most. So no caller keeps another out.
    pub(super) fn insert(
        &mut self,
        subject: Subject,
        asked: PendingStream,
    ) -> Option<(Subject, PendingStream)> {
        let taken = self.callers.get(&asked.caller).map_or(0, |share| share.taken);
        if taken >= MAX_PER_CALLER {
            return Some((subject, asked));
        }
        let mut left = None;
        if self.asked.len() >= MAX_QUESTIONS {
            let most = self.callers.iter().max_by_key(|(_, share)| share.taken);
            let Some((&most, _)) = most.filter(|(_, share)| share.taken > taken) else {
                return Some((subject, asked));
            };
            left = self.take_oldest(most);
        }
        let share = self.callers.entry(asked.caller).or_default();
        share.taken += 1;
        share.ages.push_back((asked.at, subject));
        self.asked.insert(subject, asked);
        left
    }

    /// Frees the place of a question.
    pub(super) fn take(&mut self, subject: Subject) -> Option<PendingStream> {
        let asked = self.asked.remove(&subject)?;
        let caller = asked.caller;
        if let Some(share) = self.callers.get_mut(&caller) {
            share.taken -= 1;
            if share.taken == 0 {
                self.callers.remove(&caller);
            } else if share.ages.len() > 2 * share.taken + 64 {
                // Those that were answered behind one that was not are most of it.
                let asked = &self.asked;
                share.ages.retain(|&(at, subject)| waits(asked, at, subject));
            }
        }
        Some(asked)
    }

    fn take_oldest(&mut self, caller: SocketAddr) -> Option<(Subject, PendingStream)> {
        let share = self.callers.get_mut(&caller)?;
        let asked = &self.asked;
        let mut ages = std::iter::from_fn(|| share.ages.pop_front());
        let (_, oldest) = ages.find(|&(at, subject)| waits(asked, at, subject))?;
        Some((oldest, self.take(oldest)?))
    }

    /// A question that has waited for longer than `limit`.
    pub(super) fn take_older(&mut self, now: Instant, limit: Duration) -> Option<PendingStream> {
        let mut old = None;
        for share in self.callers.values_mut() {
            while let Some(&(at, subject)) = share.ages.front() {
                let waits = waits(&self.asked, at, subject);
                if waits && now.saturating_duration_since(at) < limit {
                    break;
                }
                share.ages.pop_front();
                if waits {
                    old = Some(subject);
                    break;
                }
            }
            if old.is_some() {
                break;
            }
        }
        self.take(old?)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    #[cfg(test)]
    pub(super) fn of(&self, caller: SocketAddr) -> usize {
        self.callers.get(&caller).map_or(0, |share| share.taken)
    }
}

/// Whether this entry of the ages is the one of a question that waits: it may have been answered,
/// and asked again since.
fn waits(asked: &FxHashMap<Subject, PendingStream>, at: Instant, subject: Subject) -> bool {
    asked.get(&subject).is_some_and(|asked| asked.at == at)
}
