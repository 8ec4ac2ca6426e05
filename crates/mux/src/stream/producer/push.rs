//! Takes the items of a handler into its stream.

use bytes::Bytes;
use sinew_plane::{Code, Error, ItemRun, TrySendError, clock};

use super::{super::place::At, State};
use crate::{Connection, Driver, ITEM_COST_BYTES, PushError};

impl State {
    /// Takes an item in and sends it, or lets it wait in line.
    #[inline]
    pub(super) fn push<D: Driver>(
        &mut self,
        at: At<'_, D>,
        item: Bytes,
    ) -> Result<(), TrySendError> {
        let limit = at.connection.peer_message_limit().min(largest_kept(at.connection));
        if item.len() > limit {
            let message = format!("an item of {} bytes is over the limit of {limit}", item.len());
            return Err(TrySendError::Closed(Error::new(Code::TooLarge, message)));
        }
        let is_charged = at.connection.account.is_some() && self.producer.is_ready();
        if is_charged && !self.charge(at, item.len() + ITEM_COST_BYTES) {
            self.parked.get_or_insert_with(clock::now);
            return Err(TrySendError::Full(item));
        }
        match self.producer.push(item) {
            Ok(()) => {}
            Err(PushError::Full(item)) => {
                self.parked.get_or_insert_with(clock::now);
                return Err(TrySendError::Full(item));
            }
            Err(PushError::Ended) => return Err(TrySendError::Closed(ended_already())),
        }
        self.parked = None;
        self.send_item(at);
        Ok(())
    }

    /// Takes in what there is credit for, and sends it or lets it wait in line. `None` when an item
    /// may be too large, or there is no memory for all: they are for [`push`](Self::push) then.
    pub(super) fn push_run<D: Driver>(
        &mut self,
        at: At<'_, D>,
        run: &mut ItemRun,
    ) -> Result<Option<usize>, Error> {
        let limit = at.connection.peer_message_limit().min(largest_kept(at.connection));
        let (count, bytes) = self.producer.takes(run).map_err(|_| ended_already())?;
        if run.largest() > limit || !self.charge(at, bytes + count * ITEM_COST_BYTES) {
            return Ok(None);
        }
        let room = self.producer.push_run(run, (count, bytes));
        if run.is_empty() {
            self.parked = None;
        } else {
            self.parked.get_or_insert_with(clock::now);
        }
        if count > 0 {
            self.send_item(at);
        }
        Ok(Some(room))
    }
}

fn ended_already() -> Error {
    Error::new(Code::HandlerFailed, "the stream has ended already")
}

/// The largest item that this side can keep at all, in bytes.
#[inline]
fn largest_kept<D: Driver>(connection: &Connection<D>) -> usize {
    connection.account.as_ref().map_or(usize::MAX, |account| account.budget().share() / 2)
}
