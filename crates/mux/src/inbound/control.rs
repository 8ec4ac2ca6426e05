//! Frames that control a stream or the connection: credit and cancels, pings, grants and goaways.

use std::time::Instant;

use bytes::Bytes;

use super::Inbound;
use crate::{
    ConnectionError, DoneStreams, Event,
    frame::Kind,
    message::{self, Fields},
};

impl Inbound {
    pub(super) fn read_control(
        &mut self,
        kind: Kind,
        stream: u32,
        payload: &[u8],
        now: Instant,
    ) -> Result<Event, ConnectionError> {
        if !self.role.peer().opens(stream) || stream >= self.next_stream {
            return Err(ConnectionError::Violation("control of a stream that was not opened"));
        }
        let broken = ConnectionError::Violation("a control frame that cannot be read");
        let mut fields = Fields(payload);
        if kind == Kind::Credit {
            let credit = message::decode_credit(&mut fields).ok_or(broken)?;
            return Ok(Event::Credit { stream, credit });
        }
        if !self.cancels.try_acquire(now) {
            return Err(ConnectionError::Abuse("cancels"));
        }
        let (kind, reason) = message::decode_cancel(&mut fields).ok_or(broken)?;
        if self.request_bodies.cancel(stream) {
            return Ok(Event::OpenCancelled { stream, reason });
        }
        Ok(Event::Cancel { stream, kind, reason })
    }

    pub(super) fn read_connection(
        &mut self,
        kind: Kind,
        payload: Bytes,
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let broken = ConnectionError::Violation("a connection frame that cannot be read");
        let mut fields = Fields(&payload);
        match kind {
            Kind::Ping => {
                self.on_ineffective_frame(now)?;
                let token = fields.u64().ok_or(broken)?;
                Ok(Some(Event::Ping { token }))
            }
            Kind::Pong => {
                self.on_ineffective_frame(now)?;
                Ok(None)
            }
            Kind::Grant => {
                let total = fields.u64().ok_or(broken)?;
                if total <= self.peer_granted {
                    self.on_ineffective_frame(now)?;
                    return Ok(None);
                }
                self.peer_granted = total;
                Ok(Some(Event::Grant { total }))
            }
            Kind::Done => {
                // It comes with a write, and each stream that may cause one has paid for it.
                self.on_ineffective_frame(now)?;
                Ok(Some(Event::Done { streams: DoneStreams::new(payload) }))
            }
            _ => {
                // One tells it all, and a second may name another stream: more bring nothing.
                self.on_ineffective_frame(now)?;
                let last_stream = fields.u32().ok_or(broken.clone())?;
                let error = message::decode_error(&mut fields).ok_or(broken)?;
                self.forget_above(last_stream);
                Ok(Some(Event::GoAway { last_stream, error }))
            }
        }
    }
}
