//! Charges the payload of a request to the memory budget.

use std::sync::Arc;

use bytes::Bytes;
use sinew_codec::TcpRequestMessage;
use sinew_plane::{
    BudgetUse, Error,
    budget::{Account, Work},
};

/// Payloads up to this many bytes are copied out of the read buffer, because a handler may hold
/// on to its request for long.
const COPY_PAYLOAD_BYTES: usize = 4 << 10;

/// The payload, charged for as long as somebody holds some of it.
pub(crate) fn payload_of(
    message: &TcpRequestMessage,
    account: Option<&Arc<Account>>,
) -> Result<Bytes, Error> {
    let payload = message.payload();
    let Some(account) = account else {
        let is_short = payload.len() <= COPY_PAYLOAD_BYTES;
        return Ok(if is_short { Bytes::copy_from_slice(payload) } else { payload.clone() });
    };
    account.budget().admit()?;
    // Few bytes: how many such requests there are at once is bounded by those who take them.
    if payload.len() <= COPY_PAYLOAD_BYTES {
        return Ok(Bytes::copy_from_slice(payload));
    }
    let hold = account.hold(BudgetUse::Frames, payload.len(), Work::New);
    let hold = hold.ok_or_else(|| account.budget().refusal())?;
    Ok(hold.cover(payload.clone()))
}
