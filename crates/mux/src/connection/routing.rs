//! Passes received events to their streams.

use std::{collections::hash_map::Entry, sync::Arc, time::Instant};

use sinew_plane::{Code, Headers, Terminal};

use super::{Connection, Driver, Effects, Receiver, Serving, streams::Streams};
use crate::{ConnectionError, DoneStreams, Event};

/// Requests that are routed before their handlers are called: what comes behind them waits. The
/// allocator has a few blocks of a size at hand, and these use them again.
const MAX_REQUESTS: usize = 4;

impl<D: Driver> Receiver<D> {
    /// Routes what was read, up to a number of requests.
    pub(super) fn route(
        &mut self,
        now: Instant,
        effects: &mut Effects<D>,
    ) -> Result<(), ConnectionError> {
        let connection = Arc::clone(&self.connection);
        let mut streams = connection.streams.lock();
        self.is_unfinished = true;
        while effects.requests.len() < MAX_REQUESTS {
            self.take_items(&mut streams, now, effects)?;
            match self.inbound.poll_event(now)? {
                Some(Event::Opened(opened)) => {
                    connection.take_request(&mut streams, opened, effects);
                }
                // It comes from another connection, so this one's streams cannot be locked.
                Some(Event::Attach { stream, attach }) => {
                    drop(streams);
                    self.inbound.on_attach(now)?;
                    if !connection.take_attach((stream, &attach), now, effects)? {
                        self.inbound.on_refused_attach(now)?;
                    }
                    streams = connection.streams.lock();
                }
                Some(event) => self.route_event(&connection, &mut streams, event, now, effects)?,
                None => {
                    self.is_unfinished = false;
                    streams.gone.clear();
                    break;
                }
            }
        }
        if !streams.resumed.is_empty() {
            streams.take_heard(&mut effects.heard);
        }
        Ok(())
    }

    /// Hands items to their streams until something else is next.
    fn take_items(
        &mut self,
        streams: &mut Streams<D>,
        now: Instant,
        effects: &mut Effects<D>,
    ) -> Result<(), ConnectionError> {
        while let Some(arrived) = self.inbound.poll_items()? {
            if let Some(call) = streams.calls.get(&arrived.stream()) {
                call.on_items(&mut effects.wakers, self.reads, &arrived)?;
                continue;
            }
            for _ in 0..arrived.count() {
                if !streams.is_void() {
                    self.inbound.on_ineffective_frame(now)?;
                }
            }
        }
        Ok(())
    }

    fn route_event(
        &mut self,
        connection: &Arc<Connection<D>>,
        streams: &mut Streams<D>,
        event: Event,
        now: Instant,
        effects: &mut Effects<D>,
    ) -> Result<(), ConnectionError> {
        let wakers = &mut effects.wakers;
        let known = match event {
            // Only behind a frame that was ignored: the others are taken in before.
            Event::Items { stream, items } => match streams.calls.get(&stream) {
                Some(call) => {
                    call.on_frame(wakers, |consumer| consumer.on_items(items)).map(|()| true)?
                }
                None => false,
            },
            Event::ItemBegin { stream, total } => match streams.calls.get(&stream) {
                Some(call) => {
                    if call.on_item_begin(wakers, total)?
                        && !call.judge(self.inbound.assemble(stream))?
                    {
                        call.on_no_room(wakers);
                    }
                    true
                }
                None => false,
            },
            Event::ItemEnd { stream, item } => match streams.calls.get(&stream) {
                Some(call) => {
                    call.on_frame(wakers, |consumer| consumer.on_item_end(item)).map(|()| true)?
                }
                None => false,
            },
            Event::ItemRefused { stream } => match streams.calls.get(&stream) {
                Some(call) => {
                    call.on_no_room(wakers);
                    true
                }
                None => false,
            },
            Event::Chunk { stream } => match streams.calls.get(&stream) {
                Some(call) => {
                    call.on_frame(wakers, |consumer| consumer.on_chunk()).map(|()| true)?
                }
                None => false,
            },
            Event::Accept { stream }
                if streams.calls.get(&stream).is_some_and(|it| it.is_started()) =>
            {
                // A stream that was attached and has nothing to send says so.
                match streams.resumed.remove(&stream) {
                    Some(resumed) => {
                        effects.heard.push(resumed.since);
                        true
                    }
                    None => false,
                }
            }
            Event::Accept { stream } => match streams.calls.get(&stream) {
                Some(call) => {
                    call.on_frame(wakers, |consumer| consumer.on_accept()).map(|()| true)?
                }
                None => false,
            },
            Event::Head { stream, head } => match streams.calls.get(&stream) {
                Some(call) => call.on_head(wakers, head)?,
                None => false,
            },
            Event::Checkpoint { stream, checkpoint } => match streams.calls.get(&stream) {
                Some(call) => call.on_checkpoint(checkpoint)?,
                None => false,
            },
            Event::Ended { stream, terminal, items, facts } => {
                let end = (terminal, items, facts);
                end_call(connection, streams, (stream, end), effects)?
            }
            Event::Credit { stream, credit } => match streams.responses.get(&stream) {
                Some(response) => response.on_credit(credit, wakers)?,
                None => false,
            },
            Event::Cancel { stream, kind, reason } => match streams.responses.get(&stream) {
                Some(response) => {
                    effects.cancels.push((Arc::clone(response), kind, reason));
                    true
                }
                None => false,
            },
            Event::Done { streams: done } => return self.forget(connection, streams, &done, now),
            event => {
                self.route_connection(connection, streams, event, effects);
                true
            }
        };
        if known || streams.is_void() { Ok(()) } else { self.inbound.on_ineffective_frame(now) }
    }

    /// The peer has the ends of these streams.
    fn forget(
        &mut self,
        connection: &Connection<D>,
        streams: &mut Streams<D>,
        done: &DoneStreams,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        for stream in done.iter() {
            match streams.take_finished(stream) {
                Some(response) => {
                    connection.forget_id(&response);
                    streams.gone.push(response);
                }
                None if streams.was_let_go() => {}
                None => self.inbound.on_ineffective_frame(now)?,
            }
        }
        if streams.tells_ends && streams.finished.is_empty() {
            connection.driver.on_idle();
        }
        Ok(())
    }

    fn route_connection(
        &mut self,
        connection: &Arc<Connection<D>>,
        streams: &mut Streams<D>,
        event: Event,
        effects: &mut Effects<D>,
    ) {
        match event {
            Event::Hello(hello) => {
                connection.out.lock().outbound.on_hello(hello);
                // Set once: the machine admits one hello.
                let _ = connection.peer.set(hello);
                if connection.serving != Serving::Nothing {
                    let budget = connection.account.as_ref().map(|account| account.budget());
                    let resuming = connection.resumes().then_some(connection);
                    let (presence, session) = self.sessions.enter(hello.process, budget, resuming);
                    self.presence = Some(presence);
                    let _ = connection.session.set(session);
                    let _ = connection.sessions.set(Arc::clone(&self.sessions));
                }
                effects.established = true;
            }
            Event::Ping { token } => connection.out.lock().outbound.pong(token),
            Event::GrantDue { total } => connection.out.lock().outbound.grant(total),
            Event::Grant { total } => {
                connection.out.lock().outbound.on_grant(total);
                effects.room_made = true;
            }
            Event::GoAway { last_stream, error } => {
                connection.out.lock().outbound.on_go_away();
                streams.peer_leaves |= error.code() == Code::Draining;
                (effects.room_made, effects.went_away) = (true, true);
                let unseen: Vec<u32> =
                    streams.calls.keys().copied().filter(|stream| *stream > last_stream).collect();
                for stream in unseen {
                    if let Some(call) = streams.calls.remove(&stream) {
                        effects.wakers.extend(call.on_unseen(&error));
                        connection.out.lock().outbound.on_stream_ended();
                        connection.stream_gone();
                    }
                }
            }
            Event::OpenCancelled { stream, reason } => {
                let terminal = Terminal::Cancelled { reason };
                connection.out.lock().outbound.terminal(stream, &terminal, 0);
            }
            Event::OpenRefused { stream, error } => {
                connection.reject(stream, &error);
            }
            _ => {}
        }
    }
}

/// A stream that this side opened has its end. False when there is no such stream.
fn end_call<D: Driver>(
    connection: &Connection<D>,
    streams: &mut Streams<D>,
    (stream, end): (u32, (Terminal, u64, Headers)),
    effects: &mut Effects<D>,
) -> Result<bool, ConnectionError> {
    let Entry::Occupied(call) = streams.calls.entry(stream) else { return Ok(false) };
    // It leaves the table behind the step that may fail: the end of the connection has to find it
    // there, or its caller would wait for ever.
    let window = call.get().on_terminal(&mut effects.wakers, end)?;
    call.remove();
    {
        let mut out = connection.out.lock();
        out.outbound.on_stream_ended();
        out.outbound.release_window(window);
        if connection.resumes() {
            out.outbound.done(stream);
        }
    }
    effects.room_made = true;
    connection.stream_gone();
    Ok(true)
}
