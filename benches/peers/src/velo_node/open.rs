//! A request for a stream: where its items go, then the body.

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use velo::{StreamAnchorHandle, StreamOpenTicket, StreamSender, Velo};

pub(super) struct Open {
    pub(super) handle: StreamAnchorHandle,
    /// Spares the sender a round trip; only the multiplexed mode has it.
    pub(super) ticket: Option<StreamOpenTicket>,
    pub(super) body: Bytes,
}

impl Open {
    pub(super) fn write(&self) -> Result<Bytes> {
        let ticket = match &self.ticket {
            Some(ticket) => serde_json::to_vec(ticket)?,
            None => Vec::new(),
        };
        let mut message = BytesMut::with_capacity(18 + ticket.len() + self.body.len());
        message.put_u128_le(self.handle.as_u128());
        message.put_u16_le(ticket.len().try_into()?);
        message.put_slice(&ticket);
        message.put_slice(&self.body);
        Ok(message.freeze())
    }

    pub(super) fn read(mut message: Bytes) -> Result<Self> {
        let handle = StreamAnchorHandle::from_u128(message.try_get_u128_le()?);
        let ticket_bytes = usize::from(message.try_get_u16_le()?);
        let ticket = message.get(..ticket_bytes).context("a ticket that is cut off")?;
        let ticket = match ticket {
            [] => None,
            ticket => Some(serde_json::from_slice(ticket)?),
        };
        message.advance(ticket_bytes);
        Ok(Self { handle, ticket, body: message })
    }

    pub(super) async fn sender(self, node: &Velo) -> Result<(StreamSender<Bytes>, Bytes)> {
        let sender = match self.ticket {
            Some(ticket) => node.open_anchor_stream(self.handle, ticket).await?,
            None => node.attach_anchor(self.handle).await?,
        };
        Ok((sender, self.body))
    }
}
