//! Moves running streams to the transport of a policy, and back.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use sinew_discovery::PlanePolicy;
use sinew_plane::{Code, InstanceId, RunningStream, TransportId, Way};
use sinew_registry::Route;

use super::{
    follow::Following,
    moves::TransportMove,
    running::{Came, Key},
    share::Ramp,
};
use crate::{Client, client::Members};

/// Most moves under way at once. They share connections, so more of them save no time.
const AT_ONCE: usize = 64;

/// Longest wait for one move. A connection that takes longer is of no use to the stream.
const MOVE_LIMIT: Duration = Duration::from_secs(10);

/// So often a stream may refuse to be moved.
const MAX_REFUSED: u8 = 3;

/// A running stream, as it was when the list was read.
struct Seen {
    key: Key,
    stream: RunningStream,
    client: Client,
    instance: InstanceId,
    transport: TransportId,
    came: Came,
    is_tried: bool,
}

/// A move that is to be made.
struct Planned {
    key: Key,
    stream: RunningStream,
    from: TransportId,
    way: Way,
}

/// Whether the moves bring streams to the transport of the policy or away from it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    There,
    /// The share has become smaller.
    Away,
    Back,
}

impl Following {
    /// Moves as many streams as are missing from the share. Streams beyond the whole share go back.
    pub(super) async fn move_share(&self, policy: &PlanePolicy, ramp: &Ramp) {
        let target = &policy.transport;
        let mut known = Known::default();
        let (mut movable, mut there, mut elsewhere) = (0, Vec::new(), Vec::new());
        for seen in self.seen() {
            let Some(way) = known.way(&seen, |routes| of(routes, target)) else { continue };
            movable += 1;
            if seen.transport == *target {
                there.push(seen);
            } else if !seen.is_tried {
                elsewhere.push(Planned::new(seen, way));
            }
        }
        let (wanted, slack) = (ramp.wanted(movable), ramp.slack(movable));
        if there.len() + slack < wanted {
            elsewhere.truncate(wanted - there.len());
            self.make(elsewhere, policy, Direction::There).await;
        } else if ramp.is_whole() && there.len() > wanted + slack {
            let surplus = there.len() - wanted;
            let back = back(there, &mut known, target).take(surplus).collect();
            self.make(back, policy, Direction::Away).await;
        }
    }

    /// Moves all streams back that the policy has brought to its transport. Returns how many.
    pub(super) async fn move_back(&self, policy: &PlanePolicy) -> usize {
        let target = &policy.transport;
        let there = self.seen().into_iter().filter(|seen| seen.transport == *target).collect();
        let back = back(there, &mut Known::default(), target).collect();
        self.make(back, policy, Direction::Back).await
    }

    fn seen(&self) -> Vec<Seen> {
        let mut all = Vec::new();
        self.running.each(|key, entry, _| {
            all.push(Seen {
                key,
                stream: entry.stream.clone(),
                client: entry.client.clone(),
                instance: entry.instance,
                transport: entry.transport.clone(),
                came: entry.came.clone(),
                is_tried: entry.refused >= MAX_REFUSED,
            });
        });
        all
    }

    async fn make(&self, planned: Vec<Planned>, policy: &PlanePolicy, to: Direction) -> usize {
        let made = futures_util::stream::iter(planned)
            .map(|planned| self.make_one(planned, policy, to))
            .buffer_unordered(AT_ONCE);
        made.filter(|is_made| std::future::ready(*is_made)).count().await
    }

    /// True if the stream was moved.
    async fn make_one(&self, planned: Planned, policy: &PlanePolicy, to: Direction) -> bool {
        let Planned { key, stream, from, way } = planned;
        let target = way.transport.id().clone();
        let moved = tokio::time::timeout(MOVE_LIMIT, stream.move_to(way)).await;
        let error = match moved {
            Ok(Ok(())) => {
                self.metrics.moved(target.as_str());
                self.running.with(key, |entry, ends| {
                    if to == Direction::There {
                        ends.all.attempts.count(false);
                    }
                    entry.transport = target.clone();
                    entry.came = match to {
                        Direction::There => Came::From(from.clone()),
                        Direction::Away | Direction::Back => Came::ByDefault,
                    };
                    entry.moves.add(|| TransportMove {
                        from,
                        to: target,
                        at_item: entry.stream.place().map_or(0, |place| place.items),
                        version: policy.version,
                        is_rollback: to == Direction::Back,
                    });
                });
                return true;
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        tracing::debug!(endpoint = %self.endpoint, to = %target, ?error, "a stream was not moved");
        // The stream may be one that stays where it is, or of a process whose place another one has
        // taken. That is not the fault of the transport.
        let is_refused =
            error.is_some_and(|error| matches!(error.code(), Code::NoTransport | Code::WrongPeer));
        self.running.with(key, |entry, _| match is_refused {
            true => entry.refused = entry.refused.saturating_add(1),
            false => entry.has_failed = to == Direction::There,
        });
        false
    }
}

impl Planned {
    fn new(seen: Seen, way: Way) -> Self {
        Self { key: seen.key, stream: seen.stream, from: seen.transport, way }
    }
}

/// The moves of streams that the policy has brought to `target`: to where they were, or for those
/// that began there, over the first other route.
fn back<'a>(
    there: Vec<Seen>,
    known: &'a mut Known,
    target: &'a TransportId,
) -> impl Iterator<Item = Planned> + 'a {
    there.into_iter().filter_map(move |seen| {
        let way = match &seen.came {
            Came::ByDefault => return None,
            Came::From(home) => known.way(&seen, |routes| of(routes, home)),
            Came::Pinned => known
                .way(&seen, |routes| routes.iter().find(|route| route.transport.id() != target)),
        };
        way.map(|way| Planned::new(seen, way))
    })
}

/// The first route of that transport.
fn of<'a>(routes: &'a [Route], transport: &TransportId) -> Option<&'a Route> {
    routes.iter().find(|route| route.transport.id() == transport)
}

/// The members of each client that has running streams; most have the same one.
#[derive(Default)]
struct Known(HashMap<usize, Places>);

struct Places {
    /// Held, so that its address stays its own.
    _client: Client,
    members: Arc<Members>,
    of: HashMap<InstanceId, usize>,
}

impl Known {
    fn way(&mut self, seen: &Seen, choose: impl FnOnce(&[Route]) -> Option<&Route>) -> Option<Way> {
        let places = self.0.entry(seen.client.address()).or_insert_with(|| {
            let members = seen.client.members();
            let of = members.instances.iter().map(|one| one.id).zip(0..).collect();
            Places { _client: seen.client.clone(), members, of }
        });
        let route = choose(&places.members.routes[*places.of.get(&seen.instance)?])?;
        Some(Way { transport: Arc::clone(&route.transport), address: route.address.clone() })
    }
}
