//! Items, readers, credit and time in any order: each reader gets all items from where it asks, or
//! hears which there are; none holds another up; and what is kept is bounded and charged.

use std::time::Instant;

use proptest::prelude::*;
use sinew_plane::clock;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Push {
        count: usize,
        len: usize,
    },
    /// A reader comes, for an item that is a random one of those there are, or one beyond.
    Come {
        from: usize,
        credit: usize,
    },
    /// It acknowledges what it has, and takes more.
    Grant {
        reader: usize,
        credit: usize,
    },
    Leave {
        reader: usize,
    },
    Pass {
        time: Duration,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let credit = || prop_oneof![2 => 1..20_usize, 1 => Just(1_000_000_usize)];
    let len = prop_oneof![3 => 0..100_usize, 1 => 0..30_000_usize];
    prop_oneof![
        6 => (1..40_usize, len).prop_map(|(count, len)| Op::Push { count, len }),
        3 => (any::<usize>(), prop_oneof![1 => Just(0), 4 => credit()])
            .prop_map(|(from, credit)| Op::Come { from, credit }),
        6 => (any::<usize>(), credit()).prop_map(|(reader, credit)| Op::Grant { reader, credit }),
        1 => any::<usize>().prop_map(|reader| Op::Leave { reader }),
        2 => (0..4_000_u64).prop_map(|ms| Op::Pass { time: Duration::from_millis(ms) }),
    ]
}

fn retain() -> impl Strategy<Value = Retain> {
    let items = prop_oneof![1..30_usize, Just(100_000_usize)];
    let bytes = prop_oneof![1..50_000_usize, Just(1_usize << 30)];
    (items, bytes, 1_000..20_000_u64).prop_map(|(items, bytes, ms)| Retain {
        items,
        bytes,
        time: Duration::from_millis(ms),
    })
}

struct Reader {
    far: Arc<Far>,
    context: Context,
    from: usize,
    has_left: bool,
    has_ended: bool,
}

impl Reader {
    /// The number of the item that it gets next.
    fn position(&self) -> usize {
        self.from + self.far.state.lock().items.len()
    }

    fn acknowledged(&self) -> usize {
        self.from + self.far.state.lock().acknowledged as usize
    }

    fn reads(&self) -> bool {
        !self.has_left && self.far.state.lock().end.is_none()
    }

    fn has_credit(&self) -> bool {
        self.far.state.lock().credit > 0
    }
}

struct Model {
    world: World,
    retain: Retain,
    budget: Arc<Budget>,
    /// The budget has room for all that is to be kept.
    is_roomy: bool,
    made: Vec<(Instant, Bytes)>,
    readers: Vec<Reader>,
    /// Items below this number were acknowledged by some reader, and below that the log has heard it.
    acknowledged: usize,
    heard: usize,
    /// Items that there were at the last check.
    checked: usize,
    /// Nobody read for so long that the handler was told to stop.
    is_killed: bool,
    began: Instant,
}

impl Model {
    fn new(retain: Retain, credit: usize, is_roomy: bool) -> Self {
        let budget = Budget::new(if is_roomy { 1 << 30 } else { 4 << 20 });
        let world = World::within(Some(&budget), retain, credit);
        let (far, context) = (Arc::clone(&world.first), world.caller.clone());
        let first = Reader { far, context, from: 0, has_left: false, has_ended: false };
        Self {
            world,
            retain,
            budget,
            is_roomy,
            made: Vec::new(),
            readers: vec![first],
            acknowledged: 0,
            heard: 0,
            checked: 0,
            is_killed: false,
            began: clock::now(),
        }
    }

    /// Lets all readers go as far as they come.
    async fn settle(&self) {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }

    /// False once the response is over because nobody reads it.
    async fn run(&mut self, op: &Op) -> bool {
        let count = self.readers.len();
        match *op {
            Op::Push { count, len } => return self.push(count, len).await,
            Op::Come { from, credit } => {
                self.come(from % (self.made.len() + 3), credit);
            }
            Op::Grant { reader, credit } => self.readers[reader % count].far.grant(credit),
            Op::Leave { reader } => {
                let reader = &mut self.readers[reader % count];
                reader.has_left = true;
                // As the loss of its connection.
                reader.context.cancel(StopKind::Kill, CancelReason::Disconnected);
            }
            Op::Pass { time } => tokio::time::advance(time).await,
        }
        true
    }

    fn come(&mut self, from: usize, credit: usize) {
        let (far, context) = self.world.attach(from as u64, credit);
        self.readers.push(Reader { far, context, from, has_left: false, has_ended: false });
    }

    async fn push(&mut self, count: usize, len: usize) -> bool {
        for pushed in 0..count {
            let mut item = vec![b'x'; len];
            item.extend_from_slice(self.made.len().to_string().as_bytes());
            let item = Bytes::from(item);
            match self.world.sink.try_send(item.clone()) {
                Ok(()) => self.made.push((clock::now(), item)),
                Err(TrySendError::Full(_)) => {
                    let is_all = |it: &Reader| it.reads() && it.position() == self.made.len();
                    let is_held_up = pushed == 0 && self.readers.iter().any(is_all);
                    assert!(!is_held_up, "a reader has all, and the handler waits for another");
                    break;
                }
                Err(TrySendError::Closed(error)) => {
                    assert!(self.is_killed, "{error:?}");
                    return false;
                }
            }
        }
        self.settle().await;
        let reading = self.readers.iter().filter(|it| it.reads());
        self.heard = reading.map(Reader::acknowledged).fold(self.heard, usize::max);
        true
    }

    /// The first item that has to be kept behind those that are acknowledged.
    fn oldest_behind(&self, acknowledged: usize) -> usize {
        let (now, mut bytes) = (clock::now(), 0);
        let behind = self.made[..acknowledged].iter().rev().take(self.retain.items);
        let kept = behind.take_while(|(came, item)| {
            bytes += item.len();
            bytes <= self.retain.bytes && now.duration_since(*came) <= self.retain.time
        });
        acknowledged - kept.count()
    }

    /// The items that are there, from the log itself; `None` when it is gone.
    fn kept(&self) -> Option<(usize, usize)> {
        let log = self.world.retention.logs.lock().values().next().cloned()?;
        match log.next(u64::MAX) {
            log::Next::Expired { oldest, newest } => Some((oldest as usize, newest as usize)),
            _ => None,
        }
    }

    async fn check(&mut self) {
        self.settle().await;
        if self.world.handler.is_killed() && !std::mem::replace(&mut self.is_killed, true) {
            // One that comes later reads what there is.
            assert!(!self.readers.iter().any(Reader::reads), "somebody reads");
        }
        let acknowledged = self.readers.iter().map(Reader::acknowledged);
        let acknowledged = acknowledged.map(|it| it.min(self.made.len()));
        self.acknowledged = acknowledged.fold(self.acknowledged, usize::max);
        let kept = self.kept();
        if let Some((oldest, newest)) = kept {
            assert_eq!(newest, self.made.len());
            self.check_kept(oldest);
        }
        // Those hear it whose next item has gone by this look.
        self.settle().await;
        for at in 0..self.readers.len() {
            self.check_reader(at, kept.map_or(0, |(oldest, _)| oldest)).await;
        }
        self.checked = self.made.len();
    }

    /// No more is kept than is said, and no less.
    fn check_kept(&self, oldest: usize) {
        let most = self.oldest_behind(self.heard);
        assert!(oldest >= most, "{oldest} is still there, from {most} on is to be kept");
        let bytes: usize = self.made[oldest..].iter().map(|(_, item)| item.len() + 64).sum();
        let charged = self.budget.used(BudgetUse::Retained);
        // What one account takes from a budget without need.
        assert!(charged <= bytes + (64 << 10), "{charged} for {bytes} bytes");
        if self.is_roomy {
            let least = self.oldest_behind(self.acknowledged);
            assert!(oldest <= least, "{oldest} is the oldest, from {least} on is to be kept");
            assert!(charged >= bytes, "{charged} for {bytes} bytes");
        } else {
            assert!(charged <= self.budget.share(), "{charged} bytes");
        }
    }

    async fn check_reader(&mut self, at: usize, oldest: usize) {
        let reader = &mut self.readers[at];
        {
            let got = &reader.far.state.lock().items;
            let made = self.made.get(reader.from..).unwrap_or_default();
            let is_made = got.iter().zip(made).all(|(got, (_, made))| got == made);
            assert!(is_made && got.len() <= made.len(), "reader {at} from {}", reader.from);
        }
        let end = reader.far.state.lock().end.clone();
        let is_new = !std::mem::replace(&mut reader.has_ended, end.is_some());
        let (position, total) = (reader.position(), self.made.len());
        match end {
            None if reader.has_left => {}
            None if reader.has_credit() => assert_eq!(position, total, "reader {at} is held up"),
            None => {
                assert!(position >= oldest, "reader {at} does not hear that {position} is gone")
            }
            Some(Terminal::Complete { .. }) => assert_eq!(position, total, "reader {at}"),
            Some(Terminal::Cancelled { .. }) => assert!(reader.has_left, "reader {at}"),
            Some(Terminal::Failed { error }) if error.code() == Code::Exhausted => {
                let waited = clock::now().duration_since(self.began);
                assert!(!is_new || !reader.has_credit(), "{error:?}");
                assert!(waited >= self.retain.time, "{error:?}");
            }
            Some(Terminal::Failed { error }) => {
                let (oldest, newest) = error.resume_window().expect("which items there are");
                assert!(!(oldest..=newest).contains(&(position as u64)), "{position}: {error:?}");
                if is_new {
                    let since_last_check = self.checked as u64..=total as u64;
                    assert!(since_last_check.contains(&newest), "{newest} of {total}");
                    self.check_that_there_is(oldest as usize).await;
                }
            }
        }
    }

    /// A reader that asks from here on gets all, unless what others have acknowledged since then may
    /// go.
    async fn check_that_there_is(&mut self, oldest: usize) {
        let least = self.oldest_behind(self.acknowledged);
        assert!(!self.is_roomy || oldest <= least, "{oldest}, and {least} is to be kept");
        let from = oldest.max(least);
        self.come(from, 1_000_000);
        self.settle().await;
        let reader = self.readers.last().unwrap();
        assert_eq!(reader.position(), self.made.len(), "from {from} on, of those from {oldest} on");
    }

    /// The response ends: so do all who read, with all of it that is still there.
    async fn end(self) {
        let Self { world, readers, made, budget, .. } = self;
        let World { retention, tasks, sink, .. } = world;
        sink.complete();
        for reader in readers.iter().filter(|it| it.reads()) {
            reader.far.give(1_000_000);
            let end = reader.far.end().await;
            let position = reader.position();
            match end {
                Terminal::Complete { .. } => assert_eq!(position, made.len()),
                // What a faster one acknowledged meanwhile need not be there any more.
                Terminal::Failed { ref error } => {
                    let (oldest, newest) = error.resume_window().expect("which items there are");
                    assert!(!(oldest..=newest).contains(&(position as u64)), "{position}: {end:?}");
                }
                Terminal::Cancelled { .. } => panic!("{end:?}"),
            }
        }
        drop(readers);
        retention.close();
        tasks.close();
        timeout(GUARD, tasks.wait()).await.expect("all readers end");
        assert_eq!(budget.total(), 0, "memory is left behind");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn readers_get_all_from_where_they_ask_or_hear_what_there_is(
        retain in retain(),
        credit in prop_oneof![Just(0_usize), 1..50_usize, Just(1_000_000_usize)],
        is_roomy: bool,
        ops in prop::collection::vec(op(), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut model = Model::new(retain, credit, is_roomy);
            for op in &ops {
                if !model.run(op).await {
                    break;
                }
                model.check().await;
            }
            model.end().await;
        });
    }
}
