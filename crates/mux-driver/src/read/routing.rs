//! Which stream what arrives is for.

use std::{collections::hash_map::Entry, sync::Arc, time::Instant};

use parking_lot::MutexGuard;
use sinew_mux::{ConnectionError, Event};
use sinew_plane::{Code, Error, Executed, Terminal};

use super::Reader;
use crate::{
    connection::{Connection, Stage, Streams},
    serve::serve,
};

impl Reader {
    pub(super) fn dispatch(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let connection = Arc::clone(&self.connection);
        let mut streams = connection.streams.lock();
        loop {
            self.take_items(&streams, now)?;
            match self.inbound.poll_event(now)? {
                Some(Event::Opened(opened)) => streams = serve(&connection, streams, *opened),
                Some(event) => self.route(&connection, &mut streams, event, now)?,
                None => return Ok(()),
            }
        }
    }

    /// Hands items to their streams until something else is next.
    fn take_items(&mut self, streams: &Streams, now: Instant) -> Result<(), ConnectionError> {
        while let Some(arrived) = self.inbound.poll_items()? {
            if let Some(call) = streams.calls.get(&arrived.stream()) {
                call.on_items(&mut self.wakers, self.reads, &arrived)?;
                continue;
            }
            for _ in 0..arrived.count() {
                self.inbound.on_useless(now)?;
            }
        }
        Ok(())
    }

    fn route(
        &mut self,
        connection: &Connection,
        streams: &mut MutexGuard<'_, Streams>,
        event: Event,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let wakers = &mut self.wakers;
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
                false
            }
            Event::Accept { stream } => match streams.calls.get(&stream) {
                Some(call) => {
                    call.on_frame(wakers, |consumer| consumer.on_accept()).map(|()| true)?
                }
                None => false,
            },
            Event::Ended { stream, terminal, items } => {
                self.end_call(connection, streams, stream, terminal, items)?
            }
            Event::Credit { stream, credit } => match streams.responses.get(&stream) {
                Some(response) => response.on_credit(credit, wakers)?,
                None => false,
            },
            Event::Cancel { stream, kind, reason } => match streams.responses.get(&stream) {
                Some(response) => {
                    self.cancels.push((Arc::clone(response), kind, reason));
                    true
                }
                None => false,
            },
            event => {
                self.route_connection(connection, streams, event);
                true
            }
        };
        if known { Ok(()) } else { self.inbound.on_useless(now) }
    }

    fn end_call(
        &mut self,
        connection: &Connection,
        streams: &mut Streams,
        stream: u32,
        terminal: Terminal,
        items: u64,
    ) -> Result<bool, ConnectionError> {
        let Entry::Occupied(call) = streams.calls.entry(stream) else { return Ok(false) };
        // It leaves the table behind the step that may fail: the end of the connection has to
        // find it there, or its caller would wait for ever.
        let window = call.get().on_terminal(&mut self.wakers, terminal, items)?;
        call.remove();
        {
            let mut out = connection.out.lock();
            out.outbound.on_stream_ended();
            out.outbound.release_window(window);
        }
        self.made_room = true;
        connection.stream_gone();
        Ok(true)
    }

    fn route_connection(&mut self, connection: &Connection, streams: &mut Streams, event: Event) {
        match event {
            Event::Hello(hello) => {
                connection.out.lock().outbound.on_hello(hello);
                if connection.decides_at_once {
                    let budget = connection.config.budget.as_ref();
                    let (presence, ids) = self.callers.enter(hello.process, budget);
                    self.presence = Some(presence);
                    let _ = connection.ids.set(ids);
                }
                // Set once: the machine admits one hello.
                let _ = connection.peer.set(hello);
                connection.stage.send_if_modified(|stage| {
                    let handshake = matches!(stage, Stage::Handshake);
                    if handshake {
                        *stage = Stage::Established;
                    }
                    handshake
                });
            }
            Event::Ping { token } => connection.out.lock().outbound.pong(token),
            Event::GrantDue { total } => connection.out.lock().outbound.grant(total),
            Event::Grant { total } => {
                connection.out.lock().outbound.on_grant(total);
                self.made_room = true;
            }
            Event::GoAway { last_stream, error } => {
                connection.out.lock().outbound.on_go_away();
                self.made_room = true;
                let unseen: Vec<u32> =
                    streams.calls.keys().copied().filter(|stream| *stream > last_stream).collect();
                for stream in unseen {
                    if let Some(call) = streams.calls.remove(&stream) {
                        let unseen = error.clone().with_executed(Executed::No);
                        self.wakers.extend(call.on_connection_lost(&unseen));
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
            Event::Attach { stream, next_item, .. } => {
                // Streams end with their connection here, so there is nothing to come back to.
                let error = Error::new(Code::ResumeExpired, "the stream is no longer kept");
                let terminal = Terminal::Failed { error };
                connection.out.lock().outbound.terminal(stream, &terminal, next_item);
            }
            // Nothing is kept beyond its terminal, so nothing has to be let go of.
            _ => {}
        }
    }
}
