//! Streams that attach to this connection after they have lost another one.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use sinew_plane::{Code, Error, Executed, Terminal};

use super::{
    Connection, Driver, Effects, Serving,
    streams::{Resumed, Streams},
};
use crate::{
    Attach, ConnectionError, Refusal,
    session::Session,
    stream::{Attached, CallerStream, ProducerStream},
};

impl<D: Driver> Connection<D> {
    /// True if both ends keep streams after the loss of the connection.
    pub fn resumes(&self) -> bool {
        self.limits.resumes && self.peer().is_some_and(|hello| hello.resumes())
    }

    /// True if streams of this side that lose this connection wait for another one.
    pub fn keeps_calls(&self) -> bool {
        self.detached.is_some() && self.resumes()
    }

    /// Brings a stream of this side back that has lost its connection at `since`.
    pub(crate) fn reattach(
        self: &Arc<Self>,
        call: &Arc<CallerStream<D>>,
        since: Instant,
    ) -> Result<(), Refusal> {
        self.take_call(&mut self.streams.lock(), call, since)
    }

    /// Attaches a stream of this side here.
    pub(super) fn take_call(
        self: &Arc<Self>,
        streams: &mut Streams<D>,
        call: &Arc<CallerStream<D>>,
        since: Instant,
    ) -> Result<(), Refusal> {
        if streams.closed {
            return Err(Refusal::Retired);
        }
        let (stream, received) = call.reattach(self)?;
        streams.calls.insert(stream, Arc::clone(call));
        streams.resumed.insert(stream, Resumed { since, received });
        self.active.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// A consumer comes back for its stream. Takes it from where it is; one connection's streams are
    /// locked at a time. False when there is no such stream for it.
    pub(super) fn take_attach(
        self: &Arc<Self>,
        (stream, attach): (u32, &Attach),
        now: Instant,
        effects: &mut Effects<D>,
    ) -> Result<bool, ConnectionError> {
        let is_own = !attach.origin.is_known()
            || self.peer().is_some_and(|hello| hello.process == attach.origin);
        let session = self.session.get().filter(|_| self.resumes());
        let _one = session.map(|session| session.attaching());
        let claimed = match session {
            // Also one that an attach of this process has taken over before, and that does not know.
            Some(session) => match session.claim(attach) {
                Some(response) => Ok(response),
                None if is_own => Err(None),
                None => self.claim_of_other(session, (stream, attach)),
            },
            None => Err(None),
        };
        let response = match claimed {
            Ok(response) => response,
            Err(kept) => {
                let is_new = is_own && session.is_some_and(|it| it.never_begins(attach.id, now));
                self.refuse_attach(stream, attach, is_new, kept);
                return Ok(false);
            }
        };
        let mut streams = self.streams.lock();
        if streams.closed {
            // The connection was lost meanwhile: the stream waits for the next.
            let error = Error::new(Code::ConnectionLost, "the connection was lost");
            drop(streams);
            let loss = self.loss(now, &error);
            let others = match session.zip(self.sessions.get()) {
                Some((session, sessions)) => sessions.keep(session, vec![response], &loss),
                None => vec![response],
            };
            for response in others {
                self.drop_id(&response);
                response.on_connection_lost(&error);
            }
            self.driver.on_detached();
            return Ok(true);
        }
        let is_admitted = self.serving == Serving::Admits;
        let attached = response.attach(self, stream, (attach, is_admitted));
        if let Ok(Attached::Evicted) = attached {
            drop(streams);
            self.drop_id(&response);
            self.refuse_attach(stream, attach, false, None);
            return Ok(true);
        }
        if let Some(session) = session {
            session.renumber(attach.id, stream);
        }
        // Also where it went wrong: the end of the connection ends it.
        streams.take_over(stream, response, self.account.as_ref());
        self.active.fetch_add(1, Ordering::AcqRel);
        // One more or less that waits.
        self.driver.on_detached();
        if let Attached::Here(waker) = attached? {
            effects.wakers.extend(waker);
        }
        Ok(true)
    }

    /// Takes a stream of another process over into this session, if that process has lost its
    /// connection.
    ///
    /// # Errors
    /// It is not kept; or, to one that has its secret, which items of it are.
    fn claim_of_other(
        &self,
        session: &Session<D>,
        (stream, attach): (u32, &Attach),
    ) -> Result<Arc<ProducerStream<D>>, Option<(u64, u64)>> {
        let origin = self.sessions.get().and_then(|sessions| sessions.of(attach.origin));
        let origin = origin.ok_or(None)?;
        if !session.begin(attach.id, stream) {
            return Err(None);
        }
        origin.give_away(attach).inspect_err(|_| session.withdraw(attach.id))
    }

    /// The stream is not kept here, or the items that are asked for are not: those of `kept` are.
    /// `is_new` says that none of its id has begun or will.
    fn refuse_attach(&self, stream: u32, attach: &Attach, is_new: bool, kept: Option<(u64, u64)>) {
        let mut error = match kept {
            Some((oldest, newest)) => {
                let message = format!("items {oldest} to before {newest} of the stream are kept");
                Error::resume_expired(oldest, newest, message)
            }
            None => Error::new(Code::ResumeExpired, "the stream is not kept here"),
        };
        if is_new {
            error = error.with_executed(Executed::No);
        }
        let terminal = Terminal::Failed { error };
        self.out.lock().outbound.terminal(stream, &terminal, attach.next_item);
    }

    /// Lets go of a stream that is attached elsewhere, if it is the one that has this number here.
    pub(crate) fn release(&self, attach: &Attach, number: u32) -> Option<Arc<ProducerStream<D>>> {
        let mut streams = self.streams.lock();
        let is_meant = |it: &Arc<ProducerStream<D>>| it.id() == attach.id && it.takes(attach);
        if let Some(at) = streams.finished.iter().position(|it| it.stream == number) {
            is_meant(&streams.finished[at].response).then_some(())?;
            let response = streams.remove_finished(at)?;
            response.detach();
            return Some(response);
        }
        streams.responses.get(&number).filter(|it| is_meant(it))?;
        let response = streams.take_response(number, self.account.as_ref())?;
        response.detach();
        self.stream_gone();
        Some(response)
    }
}
