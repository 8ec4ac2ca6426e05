//! All streams and carriers of one case, and what may happen to them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use sinew_mux::{CheckedMuxConfig, Connection, Detached, MuxConfig, Role, Serving, Sessions};
use sinew_plane::{Budget, BudgetUse, Code, Error, ProcessId, ResumeReason};

use super::{
    carrier::{By, Carrier, Loss, Side},
    guess::Wrong,
    stream::{Conditions, LIMIT, MAX_ITEM, Stream},
    taker::Taker,
};
use crate::manual::{End, Manual};

/// How long streams are kept after the loss of their carrier.
pub(crate) const GRACE: Duration = Duration::from_secs(20);

/// More than everything here needs.
const BUDGET_BYTES: usize = 1 << 30;

/// The settings of a case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// The role of the caller's end on the first carrier; it changes with each.
    pub(crate) role: Role,
    pub(crate) integrity: bool,
    /// Whether the caller and the server keep streams.
    pub(crate) resume: [bool; 2],
}

/// One of the three processes.
struct Process {
    config: CheckedMuxConfig,
    budget: Arc<Budget>,
    serving: Serving,
    detached: Arc<Detached<Manual>>,
    sessions: Arc<Sessions<Manual>>,
}

pub(crate) struct World {
    pub(crate) streams: Vec<Stream>,
    carriers: Vec<Carrier>,
    /// The caller, the server, and the second process that takes streams over.
    processes: [Process; 3],
    next_role: Role,
    now: Instant,
    conditions: Conditions,
    direct: bool,
}

impl Process {
    fn new(number: u64, side: Side, Settings { integrity, resume, .. }: Settings) -> Self {
        let config = MuxConfig {
            process: ProcessId(number),
            integrity,
            resume: resume[side as usize],
            resume_grace: GRACE,
            max_window: LIMIT,
            // Every stream gets the window it wants.
            connection_window_bytes: u64::MAX,
            // So little that bodies wait for grants.
            request_window_bytes: 10_000,
            ..MuxConfig::default()
        };
        let serving = if side == Side::Server { Serving::Admits } else { Serving::Nothing };
        Self {
            config: config.checked().unwrap(),
            budget: Budget::new(BUDGET_BYTES),
            serving,
            detached: Arc::default(),
            sessions: Arc::default(),
        }
    }

    fn start(&self, role: Role, now: Instant) -> End {
        let account = Some(self.budget.open());
        let connection =
            Connection::new(role, &self.config, self.serving, account, Manual::default());
        let connection = Arc::new(connection.with_detached(Arc::clone(&self.detached)));
        End::new(connection, &self.config, Arc::clone(&self.sessions), now)
    }

    /// When the first of its streams is given up that wait for another carrier.
    fn poll_timeout(&self) -> Option<Instant> {
        self.detached.poll_timeout().into_iter().chain(self.sessions.poll_timeout()).min()
    }

    fn handle_timeout(&self, now: Instant) {
        if self.detached.poll_timeout().is_some_and(|due| due <= now) {
            self.detached.handle_timeout(now);
        }
        self.sessions.handle_timeout(now);
    }
}

impl World {
    pub(crate) fn new(streams: Vec<Stream>, settings: Settings) -> Self {
        let sides = [(1, Side::Caller), (2, Side::Server), (3, Side::Caller)];
        let processes = sides.map(|(number, side)| Process::new(number, side, settings));
        let resumes = settings.resume == [true; 2];
        let conditions = Conditions { resumes, expired: false, gave_away: false, is_late: false };
        let mut world = Self {
            streams,
            carriers: Vec::new(),
            processes,
            next_role: settings.role,
            now: Instant::now(),
            conditions,
            direct: true,
        };
        world.connect();
        world
    }

    /// One more connection; streams are opened and attached on the newest.
    pub(crate) fn connect(&mut self) {
        self.connect_by(By::First);
    }

    pub(crate) fn connect_by(&mut self, by: By) {
        let server = &self.processes[Side::Server as usize];
        let mut caller = self.process(by).start(self.next_role, self.now);
        let mut server = server.start(self.next_role.peer(), self.now);
        (caller.direct, server.direct) = (self.direct, !self.direct);
        self.carriers.push(Carrier::new(by, caller, server));
        self.next_role = self.next_role.peer();
        self.direct = !self.direct;
    }

    fn process(&self, by: By) -> &Process {
        match by {
            By::First => &self.processes[0],
            By::Second => &self.processes[2],
        }
    }

    /// The carrier that a random number means, among those that have an end left.
    pub(crate) fn pick(&self, which: usize) -> Option<usize> {
        let left: Vec<usize> =
            (0..self.carriers.len()).filter(|at| !self.carriers[*at].is_gone()).collect();
        (!left.is_empty()).then(|| left[which % left.len()])
    }

    fn newest(&self, by: By) -> Option<usize> {
        self.carriers.iter().rposition(|it| it.by == by && it.is_whole())
    }

    /// The caller's end of the newest connection of a process, if streams can be opened there.
    fn newest_end(&self, by: By) -> Option<&End> {
        let newest = self.newest(by).and_then(|at| self.carriers[at].end(Side::Caller));
        newest.filter(|end| end.is_established)
    }

    /// Opens what is not opened, and has those come back that have no carrier.
    pub(crate) fn reach(&mut self) {
        self.open(usize::MAX);
        By::BOTH.iter().for_each(|by| self.come_back(*by));
    }

    /// Opens those of the first `most` streams that are not opened.
    pub(crate) fn open(&mut self, most: usize) {
        let Some(end) = self.newest_end(By::First) else { return };
        let connection = Arc::clone(&end.connection);
        let streams = self.streams.iter_mut().take(most);
        for stream in streams.filter(|stream| !stream.caller.is_opened()) {
            let request = stream.request();
            // Without room the stream waits for a grant.
            if let Ok(call) = connection.try_open(&request, "a/b/c", stream.id).unwrap() {
                stream.caller.open(call);
            }
        }
    }

    /// Has the streams of a process come back that have no carrier.
    pub(crate) fn come_back(&mut self, by: By) {
        if let Some(end) = self.newest_end(by) {
            let _ = self.process(by).detached.reattach(&end.connection);
        }
    }

    /// The second process takes a stream over, from the item that its caller takes next, or from one
    /// that lies before or behind that.
    pub(crate) fn take_over(&mut self, number: usize, shift: isize) {
        let Some(end) = self.newest_end(By::Second) else { return };
        let connection = Arc::clone(&end.connection);
        self.stream(number, |stream| stream.take_over(&connection, shift));
    }

    /// A process asks for a stream over a new carrier without what it takes, and has the answer.
    pub(crate) fn guess(&mut self, number: usize, by: By, wrong: Wrong) {
        let at = self.connect_and_greet(by);
        let Some(end) = self.newest_end(by) else { return };
        let connection = Arc::clone(&end.connection);
        self.stream(number, |stream| stream.guess(&connection, by, wrong));
        (0..2).for_each(|_| self.exchange(at));
    }

    fn connect_and_greet(&mut self, by: By) -> usize {
        self.connect_by(by);
        let at = self.carriers.len() - 1;
        (0..2).for_each(|_| self.exchange(at));
        at
    }

    /// All carriers of a process are lost.
    pub(crate) fn leave(&mut self, by: By) {
        for at in 0..self.carriers.len() {
            if self.carriers[at].by == by {
                Side::BOTH.iter().for_each(|side| self.lose(at, *side, Loss::Cut));
            }
        }
    }

    /// The streams of a process attach over a carrier that is lost while the attach is on its way,
    /// and over another one. The first attach arrives behind the second, or `late` at any time.
    pub(crate) fn overtake(&mut self, by: By, late: bool) {
        self.leave(by);
        let first = self.connect_and_greet(by);
        self.come_back(by);
        self.write(first, Side::Caller, usize::MAX);
        self.lose(first, Side::Caller, Loss::Cut);
        let second = self.connect_and_greet(by);
        self.come_back(by);
        self.exchange(second);
        if !late {
            self.deliver(first, Side::Server, usize::MAX);
        }
    }

    /// Why the caller's end of a carrier does not even ask for a stream from an item on.
    pub(crate) fn ask_for(&self, (number, item): (usize, u64), at: usize) -> Error {
        let end = self.carriers[at].end(Side::Caller).unwrap();
        self.streams[number].ask_for(item, &end.connection)
    }

    /// The second process takes what is there.
    pub(crate) fn take_taken_over(&mut self, number: usize) {
        let conditions = self.conditions;
        self.stream(number, |stream| stream.take_taken_over(conditions));
    }

    /// Streams leave a carrier that is up for the newest one. Returns how many.
    pub(crate) fn move_streams(&mut self, at: usize, most: usize) -> usize {
        let Some(to) = self.newest_end(self.carriers[at].by) else { return 0 };
        let Some(from) = self.carriers[at].end(Side::Caller) else { return 0 };
        let moved = from.connection.move_calls(&to.connection, most, self.now);
        self.carriers[at].left += moved;
        moved
    }

    pub(crate) fn stream(&mut self, number: usize, act: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.get_mut(number) {
            act(stream);
        }
    }

    /// The caller takes what is there.
    pub(crate) fn take(&mut self, number: usize) {
        self.conditions.gave_away |= self.streams.iter().any(Stream::has_taker);
        let conditions = self.conditions;
        self.stream(number, |stream| stream.take(conditions));
    }

    /// Writes up to so many bytes.
    pub(crate) fn write(&mut self, at: usize, side: Side, most: usize) {
        self.carriers[at].write(side, most);
    }

    /// Delivers up to `most` bytes to one side.
    pub(crate) fn deliver(&mut self, at: usize, side: Side, most: usize) {
        let bytes: BytesMut = self.carriers[at].take_bytes(side, most);
        if side == Side::Caller && !bytes.is_empty() {
            self.carriers[at].left = 0;
        }
        let Some(end) = self.carriers[at].end_mut(side) else { return };
        let streams = &mut self.streams;
        let handled = end.handle_input(&bytes, self.now, |request| {
            let number = (request.opened.open.id.0 - 1) as usize;
            streams[number].serve(request);
        });
        handled.unwrap();
    }

    pub(crate) fn on_the_way(&self, at: usize, side: Side) -> usize {
        self.carriers[at].on_the_way(side)
    }

    pub(crate) fn lose(&mut self, at: usize, side: Side, loss: Loss) {
        self.carriers[at].lose(side, loss, self.now);
        self.conditions.is_late |= self.carriers[at].may_be_late(side);
    }

    /// The server ends its end, while what has arrived there is still to be read.
    pub(crate) fn lose_before_it_is_read(&mut self, at: usize) {
        if let Some(end) = self.carriers[at].end(Side::Server) {
            let error = Error::new(Code::ConnectionLost, "it broke");
            end.connection.lost(&error, ResumeReason::Lost, self.now);
        }
    }

    /// The server says that it has begun no stream of this connection, and will not.
    pub(crate) fn go_away(&mut self, at: usize) {
        if let Some(end) = self.carriers[at].end(Side::Server) {
            end.connection.drain(0);
        }
    }

    /// Time passes: what is due happens when it is.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut looks = 0;
        while let Some(due) = self.next_timeout().filter(|due| *due <= until) {
            looks += 1;
            assert!(looks < 1_000, "a timer is due again and again");
            self.now = self.now.max(due);
            for process in &self.processes {
                self.conditions.expired |= process.poll_timeout().is_some_and(|it| it <= self.now);
                process.handle_timeout(self.now);
            }
            for carrier in &mut self.carriers {
                for side in Side::BOTH {
                    let due = |end: &&mut End| end.poll_timeout() <= self.now;
                    let Some(end) = carrier.end_mut(side).filter(due) else { continue };
                    let is_silent = end.handle_timeout(self.now).is_err();
                    if side == Side::Caller {
                        carrier.left = 0;
                    }
                    if is_silent {
                        carrier.lose(side, Loss::GivenUp, self.now);
                        self.conditions.is_late |= carrier.may_be_late(side);
                    }
                }
            }
        }
        self.now = until;
        let ends = self.carriers.iter_mut().filter_map(|carrier| carrier.end_mut(Side::Server));
        ends.for_each(End::accept_admitted);
    }

    fn next_timeout(&self) -> Option<Instant> {
        let ends = self.carriers.iter().flat_map(|it| Side::BOTH.map(|side| it.end(side)));
        let ends = ends.flatten().map(End::poll_timeout);
        self.processes.iter().filter_map(Process::poll_timeout).chain(ends).min()
    }

    /// Everything that can be written and delivered at once.
    pub(crate) fn exchange(&mut self, at: usize) {
        for side in Side::BOTH {
            self.write(at, side, usize::MAX);
            while self.on_the_way(at, side.other()) > 0 {
                self.deliver(at, side.other(), usize::MAX);
                self.write(at, side, usize::MAX);
            }
        }
    }

    /// As [`exchange`](Self::exchange), by drivers that write only when they are told to. False when
    /// nothing was written or delivered.
    fn exchange_what_is_told(&mut self, at: usize) -> bool {
        let mut any = false;
        for side in Side::BOTH {
            if self.carriers[at].end(side).is_some_and(End::wants_write) {
                self.write(at, side, usize::MAX);
                any = true;
            }
            any |= self.on_the_way(at, side.other()) > 0;
            self.deliver(at, side.other(), usize::MAX);
        }
        any
    }

    /// Nothing more goes wrong: every stream reaches its end, but for the one that nobody reads,
    /// which holds up no other.
    pub(crate) fn settle(&mut self, stalled: Option<usize>) {
        self.settle_callers(stalled);
        if stalled.is_none() {
            // Handlers whose callers have given them up, or were never told.
            if !self.streams.iter().all(Stream::is_over) {
                self.pass(GRACE);
            }
            self.streams.iter_mut().for_each(Stream::wind_up);
            assert!(self.streams.iter().all(Stream::is_over), "a handler was not told");
        }
    }

    fn settle_callers(&mut self, stalled: Option<usize>) {
        // More turns than the longest window-of-one stream needs.
        for turn in 0..5_000 {
            if self.newest(By::First).is_none() {
                self.connect();
            }
            let is_asked_for = |stream: &Stream| stream.taker.is_some() || stream.is_guessed();
            if self.streams.iter().any(is_asked_for) && self.newest(By::Second).is_none() {
                self.connect_by(By::Second);
            }
            self.reach();
            for at in 0..self.carriers.len() {
                let is_whole = self.carriers[at].is_whole();
                let is_moving = self.exchange_what_is_told(at);
                // An end whose peer is gone notices it in the end, and not before what it sent.
                if !is_whole && !is_moving && turn > 3 {
                    Side::BOTH.iter().for_each(|side| self.lose(at, *side, Loss::Cut));
                }
            }
            for number in (0..self.streams.len()).filter(|number| Some(*number) != stalled) {
                while self.streams[number].caller.is_woken() {
                    self.take(number);
                }
                while self.streams[number].taker.as_ref().is_some_and(Taker::is_woken) {
                    self.take_taken_over(number);
                }
            }
            self.streams.iter_mut().for_each(Stream::hear_of_guesses);
            self.streams.iter_mut().for_each(Stream::wind_up);
            self.check();
            if self.are_settled(stalled) {
                return;
            }
        }
        panic!("a stream does not end");
    }

    fn are_settled(&self, stalled: Option<usize>) -> bool {
        let others = self.streams.iter().enumerate().filter(|(at, _)| Some(*at) != stalled);
        let have_ended = others.map(|(_, it)| it).all(Stream::is_read);
        let is_quiet = self.carriers.iter().all(|it| match it.end(Side::Caller) {
            Some(end) => it.is_whole() && end.connection.active_streams() == 0,
            None => it.is_gone(),
        });
        // One that has lost its carrier attaches in the next turn, to tell its handler of a cancel.
        let nobody_waits = self.processes.iter().all(|it| it.detached.is_empty());
        let have_ended = have_ended && !self.streams.iter().any(Stream::is_guessed);
        have_ended && (is_quiet && nobody_waits || stalled.is_some())
    }

    pub(crate) fn check(&self) {
        self.streams.iter().for_each(Stream::check);
        let most: usize = self.streams.iter().map(Stream::most_held).sum();
        for by in By::BOTH {
            let is_up = |it: &&Carrier| it.by == by && it.end(Side::Caller).is_some();
            let left: usize = self.carriers.iter().filter(is_up).map(|it| it.left).sum();
            let (held, most) =
                (self.process(by).budget.used(BudgetUse::Queued), most + left * MAX_ITEM);
            assert!(held <= most, "{held} bytes wait for {by:?}, of {most}");
        }
        let held = self.processes[Side::Server as usize].budget.used(BudgetUse::Kept);
        assert!(held <= most, "{held} bytes are kept, of {most}");
    }

    /// All processes end: nothing may be held any more.
    pub(crate) fn end(mut self) {
        let conditions = self.conditions;
        self.streams.iter().for_each(|stream| stream.check_that_one_has_the_end(conditions));
        let error = Error::new(Code::ConnectionLost, "it is over");
        self.carriers.iter_mut().for_each(Carrier::end_all);
        for process in &self.processes {
            process.detached.close();
            process.sessions.close(&error);
        }
        let Self { processes, streams, carriers, .. } = self;
        drop((streams, carriers));
        for Process { budget, detached, sessions, .. } in processes {
            drop((detached, sessions));
            assert_eq!(budget.total(), 0, "memory is left behind");
        }
    }
}
