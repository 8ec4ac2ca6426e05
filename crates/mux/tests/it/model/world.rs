//! All streams and carriers of one case, and what may happen to them.

use sinew_mux::{Attach, CheckedMuxConfig, Event, MuxConfig, Open, PollFrame, Refusal, Role};
use sinew_plane::{CancelReason, Code, Error, InstanceId, StopKind, Terminal};

use super::{
    carrier::{Carrier, Side},
    stream::{self, Place, Server, Stream},
};

pub(crate) struct World {
    pub(crate) streams: Vec<Stream>,
    carriers: Vec<Carrier>,
    config: CheckedMuxConfig,
    /// The role of the caller's end on the next carrier; it changes with each.
    next_role: Role,
    /// Handlers end as soon as they are there.
    settling: bool,
}

impl World {
    pub(crate) fn new(streams: Vec<Stream>, first_role: Role, integrity: bool) -> Self {
        let config = MuxConfig {
            integrity,
            // So little that bodies wait for grants.
            request_window_bytes: 10_000,
            ..MuxConfig::default()
        };
        let config = config.checked().unwrap();
        let mut world =
            Self { streams, carriers: Vec::new(), config, next_role: first_role, settling: false };
        world.connect();
        world
    }

    /// One more connection; streams are opened and attached on the newest.
    pub(crate) fn connect(&mut self) {
        self.carriers.push(Carrier::new(self.next_role, &self.config));
        self.next_role = self.next_role.peer();
    }

    /// The living carrier that a random number means.
    pub(crate) fn pick(&self, which: usize) -> Option<usize> {
        let alive: Vec<usize> =
            (0..self.carriers.len()).filter(|at| self.carriers[*at].alive).collect();
        (!alive.is_empty()).then(|| alive[which % alive.len()])
    }

    fn newest(&self) -> Option<usize> {
        let last = self.carriers.len() - 1;
        self.carriers[last].alive.then_some(last)
    }

    /// Opens what is not opened, and attaches what has no carrier.
    pub(crate) fn reach(&mut self) {
        let Some(at) = self.newest() else { return };
        for stream in &mut self.streams {
            let outbound = &mut self.carriers[at].end(Side::Caller).outbound;
            if !stream.caller.opened {
                let open = Open::new(stream.id, "a/b/c", InstanceId(1), stream.window);
                match outbound.open(&open, &stream.caller.body) {
                    Ok((number, sent)) => {
                        stream.caller.opened = true;
                        stream.caller.place = Some((at, number));
                        stream.caller.body_sent = sent;
                        if sent < stream.caller.body.len() {
                            self.carriers[at].end(Side::Caller).queue(number);
                        }
                    }
                    // Before the hello, or until a grant.
                    Err(Refusal::Retired | Refusal::RequestWindow) => {}
                    Err(refusal) => panic!("{refusal:?}"),
                }
            } else if stream.caller.place.is_none() && !stream.has_ended() {
                attach(stream, &mut self.carriers[at], at);
            }
        }
    }

    /// Moves a running stream to the newest carrier, or to a new number on the same.
    pub(crate) fn migrate(&mut self, number: usize) {
        let Some(at) = self.newest() else { return };
        let Some(stream) = self.streams.get_mut(number) else { return };
        let caller = &mut stream.caller;
        let running = caller.place.is_some() && caller.consumer.is_started() && !caller.attaching;
        if !running || caller.consumer.ended().is_some() {
            return;
        }
        if self.carriers[at].end(Side::Caller).outbound.peer().is_none() {
            return;
        }
        if let Some((old, _)) = caller.place.take() {
            caller.consumer.on_carrier_lost();
            self.carriers[old].end(Side::Caller).outbound.on_stream_ended();
        }
        attach(stream, &mut self.carriers[at], at);
    }

    pub(crate) fn cancel(&mut self, number: usize, kind: StopKind) {
        let Some(stream) = self.streams.get_mut(number) else { return };
        if !stream.caller.opened || stream.has_ended() || stream.caller.cancelled >= Some(kind) {
            return;
        }
        stream.caller.cancelled = Some(kind);
        if let Some((at, number)) = stream.caller.place {
            let outbound = &mut self.carriers[at].end(Side::Caller).outbound;
            outbound.cancel(number, kind, CancelReason::Caller);
        }
    }

    /// The caller takes what is there, and gives credit for what it took before.
    pub(crate) fn take(&mut self, number: usize) {
        let Some(stream) = self.streams.get_mut(number) else { return };
        stream.take();
        let Some((at, number)) = stream.caller.place else { return };
        if let Some(credit) = stream.caller.consumer.credit_due() {
            self.carriers[at].end(Side::Caller).outbound.credit(number, credit);
        }
    }

    /// Does something to a handler, and puts its stream in line.
    pub(crate) fn serve(&mut self, number: usize, act: impl FnOnce(&mut Stream)) {
        let Some(stream) = self.streams.get_mut(number) else { return };
        if stream.server.is_some() {
            act(stream);
            self.nudge(number);
        }
    }

    fn nudge(&mut self, number: usize) {
        let Some(server) = &self.streams[number].server else { return };
        if let (Some((at, number)), true) = (server.place, server.producer.has_output()) {
            self.carriers[at].end(Side::Server).queue(number);
        }
    }

    /// Gives out some turns and writes.
    pub(crate) fn write(&mut self, at: usize, side: Side, turns: usize) {
        for _ in 0..turns {
            let Some(number) = self.carriers[at].end(side).next_turn() else { break };
            // Whoever has more stands in line again, behind the others.
            if self.turn(at, side, number) {
                self.carriers[at].end(side).queue(number);
            }
        }
        self.carriers[at].end(side).write();
    }

    /// One stream's turn. True when it has more.
    fn turn(&mut self, at: usize, side: Side, number: u32) -> bool {
        let place: Place = Some((at, number));
        let outbound = &mut self.carriers[at].end(side).outbound;
        match side {
            Side::Server => {
                let servers = self.streams.iter_mut().filter_map(|stream| stream.server.as_mut());
                let Some(server) = servers.into_iter().find(|server| server.place == place) else {
                    return false; // moved away
                };
                let had_output = server.producer.has_output();
                let polled = server.producer.poll_frame(number, outbound.outbox());
                assert!(had_output || polled == PollFrame::Idle);
                assert_eq!(polled == PollFrame::More, server.producer.has_output());
                polled == PollFrame::More
            }
            Side::Caller => {
                let callers = self.streams.iter_mut().map(|stream| &mut stream.caller);
                let Some(caller) = callers.into_iter().find(|caller| caller.place == place) else {
                    return false;
                };
                if caller.cancelled.is_some() || caller.consumer.ended().is_some() {
                    return false;
                }
                caller.body_sent = outbound.body_chunk(number, &caller.body, caller.body_sent);
                caller.body_sent < caller.body.len()
            }
        }
    }

    /// Delivers up to `most` bytes to one side.
    pub(crate) fn deliver(&mut self, at: usize, side: Side, most: usize) {
        for event in self.carriers[at].deliver(side, most) {
            match side {
                Side::Caller => self.on_caller_event(at, event),
                Side::Server => self.on_server_event(at, event),
            }
        }
    }

    pub(crate) fn on_the_way(&mut self, at: usize, side: Side) -> usize {
        self.carriers[at].on_the_way(side)
    }

    /// The connection breaks after some more bytes each way.
    pub(crate) fn lose(&mut self, at: usize, to_caller: usize, to_server: usize) {
        self.deliver(at, Side::Caller, to_caller);
        self.deliver(at, Side::Server, to_server);
        self.carriers[at].alive = false;
        for stream in &mut self.streams {
            let caller = &mut stream.caller;
            if caller.place.is_some_and(|(on, _)| on == at) {
                caller.consumer.on_carrier_lost();
                caller.place = None;
                caller.attaching = false;
            }
            let Some(server) = &mut stream.server else { continue };
            if server.place.is_some_and(|(on, _)| on == at) {
                server.producer.on_carrier_lost();
                server.place = None;
                assert!(!server.producer.has_output());
            }
        }
    }

    fn on_caller_event(&mut self, at: usize, event: Event) {
        let end = self.carriers[at].end(Side::Caller);
        let number = match &event {
            Event::Hello(hello) => return end.outbound.on_hello(*hello),
            Event::Grant { total } => return end.outbound.on_grant(*total),
            Event::Accept { stream }
            | Event::Items { stream, .. }
            | Event::ItemBegin { stream, .. }
            | Event::ItemEnd { stream, .. }
            | Event::Ended { stream, .. } => *stream,
            event => panic!("a caller does not expect {event:?}"),
        };
        let callers = self.streams.iter_mut().map(|stream| &mut stream.caller);
        let place: Place = Some((at, number));
        let Some(caller) = callers.into_iter().find(|caller| caller.place == place) else {
            return; // moved away
        };
        caller.attaching = false;
        let consumer = &mut caller.consumer;
        let taken = match event {
            Event::Accept { .. } => consumer.on_accept(),
            Event::Items { items, .. } => consumer.on_items(items),
            Event::ItemBegin { total, .. } => consumer.on_item_begin(total),
            Event::ItemEnd { item, .. } => consumer.on_item_end(item),
            Event::Ended { terminal, items, .. } => {
                end.outbound.on_stream_ended();
                consumer.on_terminal(terminal, items)
            }
            _ => Ok(()),
        };
        taken.unwrap();
    }

    fn on_server_event(&mut self, at: usize, event: Event) {
        let outbound = &mut self.carriers[at].end(Side::Server).outbound;
        match event {
            Event::Hello(hello) => outbound.on_hello(hello),
            Event::GrantDue { total } => outbound.grant(total),
            Event::Opened(opened) => {
                let number = (opened.open.id.0 - 1) as usize;
                let stream = &mut self.streams[number];
                assert!(stream.server.is_none(), "opened twice");
                assert_eq!(opened.open.window, stream.window);
                assert_eq!(opened.body, stream.caller.body);
                stream.server = Some(Server::new(stream.window, Some((at, opened.stream))));
                if self.settling {
                    self.finish(number);
                }
            }
            Event::OpenCancelled { stream, reason } => {
                outbound.terminal(stream, &Terminal::Cancelled { reason }, 0);
            }
            Event::Attach { stream, attach } => {
                let Attach { id, next_item, credit, .. } = attach;
                let number = (id.0 - 1) as usize;
                let Some(server) = &mut self.streams[number].server else {
                    let error = Error::new(Code::ResumeExpired, "not known here");
                    outbound.terminal(stream, &Terminal::Failed { error }, next_item);
                    return;
                };
                server.producer.on_attach(next_item, credit).unwrap();
                server.place = Some((at, stream));
                self.nudge(number);
            }
            Event::Credit { stream, credit } => {
                if let Some(number) = self.served(at, stream) {
                    let producer = &mut self.streams[number].server.as_mut().unwrap().producer;
                    producer.on_credit(credit).unwrap();
                }
            }
            Event::Cancel { stream, kind, reason } => {
                if let Some(number) = self.served(at, stream) {
                    self.serve(number, |stream| {
                        stream.server.as_mut().unwrap().on_cancel(kind, reason);
                    });
                }
            }
            event => panic!("a server does not expect {event:?}"),
        }
    }

    fn served(&self, at: usize, number: u32) -> Option<usize> {
        let place: Place = Some((at, number));
        let here = |stream: &Stream| stream.server.as_ref().is_some_and(|it| it.place == place);
        self.streams.iter().position(here)
    }

    fn finish(&mut self, number: usize) {
        self.serve(number, |stream| {
            let server = stream.server.as_mut().unwrap();
            server.finish(stream::terminal(u8::MAX, server.producer.pushed()));
        });
    }

    /// Nothing more goes wrong: every stream reaches its end, but for the one that nobody reads,
    /// which holds up no other.
    pub(crate) fn settle(&mut self, stalled: Option<usize>) {
        self.settling = true;
        for number in 0..self.streams.len() {
            self.finish(number);
        }
        // More turns than the longest window-of-one stream needs.
        for _ in 0..5_000 {
            if self.newest().is_none() {
                self.connect();
            }
            self.reach();
            for at in 0..self.carriers.len() {
                if self.carriers[at].alive {
                    self.exchange(at);
                }
            }
            let mut ended = true;
            for number in (0..self.streams.len()).filter(|number| Some(*number) != stalled) {
                self.take(number);
                ended &= self.streams[number].has_ended();
            }
            self.check();
            if ended {
                return;
            }
        }
        panic!("a stream does not end");
    }

    /// Everything that can be written and delivered at once.
    pub(crate) fn exchange(&mut self, at: usize) {
        for side in [Side::Caller, Side::Server] {
            self.write(at, side, usize::MAX);
            self.deliver(at, side.other(), usize::MAX);
        }
    }

    pub(crate) fn check(&self) {
        self.streams.iter().for_each(Stream::check);
    }
}

fn attach(stream: &mut Stream, carrier: &mut Carrier, at: usize) {
    let outbound = &mut carrier.end(Side::Caller).outbound;
    if outbound.peer().is_none() {
        return;
    }
    let caller = &mut stream.caller;
    let (next_item, credit) = caller.consumer.attach();
    let attach = Attach { id: stream.id, secret: 0, counter: 0, next_item, credit };
    let number = outbound.attach(&attach).unwrap();
    caller.place = Some((at, number));
    caller.attaching = true;
    // What was asked for over the lost carrier may be lost with it.
    if let Some(kind) = caller.cancelled {
        outbound.cancel(number, kind, CancelReason::Caller);
    }
}
