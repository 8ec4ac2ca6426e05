//! Charges what is received over NATS to the memory budget.

use std::sync::Arc;

use async_nats::Message;
use bytes::Bytes;
use sinew_plane::{
    BudgetUse, Error,
    budget::{Account, Hold, Work},
};

/// What a message costs beside the bytes that its sender chose: the library's own value, and the
/// entries of its headers. Measured with two headers.
const MESSAGE_COST_BYTES: usize = 1 << 10;

/// Payloads up to this many bytes are copied: they are cut out of a read buffer of 64 KiB or more,
/// and whoever held one would hold all of that.
const COPY_BYTES: usize = 32 << 10;

/// Replies up to this many bytes are not charged: an acknowledgement is that short, and there are
/// no more of them than requests in flight.
const FREE_REPLY_BYTES: usize = 4 << 10;

/// Charges a request for as long as somebody holds its payload.
///
/// # Errors
/// [`Code::Overloaded`](sinew_plane::Code::Overloaded), certainly not executed, when the budget or
/// the share of `account` has no room. The payload is gone then.
pub(crate) fn request(account: Option<&Arc<Account>>, message: &mut Message) -> Result<(), Error> {
    let payload = std::mem::take(&mut message.payload);
    let hold = match account {
        None => None,
        Some(account) => {
            // Its length has the subjects and headers too.
            let bytes = MESSAGE_COST_BYTES + message.length.max(payload.len());
            let hold = account.hold(BudgetUse::Frames, bytes, Work::New);
            Some(hold.ok_or_else(|| account.budget().refusal())?)
        }
    };
    message.payload = held(payload, hold);
    Ok(())
}

/// Charges a reply for as long as somebody holds its payload. False, and the payload is gone, when
/// there is no room.
pub(crate) fn reply(account: Option<&Arc<Account>>, message: &mut Message) -> bool {
    let payload = std::mem::take(&mut message.payload);
    let hold = match account.filter(|_| payload.len() > FREE_REPLY_BYTES) {
        None => None,
        Some(account) => match account.hold(BudgetUse::Queued, payload.len(), Work::Running) {
            None => return false,
            hold => hold,
        },
    };
    message.payload = held(payload, hold);
    true
}

/// Charges an item of a queue for as long as somebody holds its payload, as far as there is room:
/// no more of them come than were asked for.
#[cfg(feature = "jetstream")]
pub(crate) fn item(account: Option<&Arc<Account>>, message: &mut Message) {
    let payload = std::mem::take(&mut message.payload);
    let bytes = MESSAGE_COST_BYTES + message.length.max(payload.len());
    let hold = account.and_then(|account| account.hold(BudgetUse::Queued, bytes, Work::Running));
    message.payload = held(payload, hold);
}

/// The payload in memory of its own if it is short, and with what it is charged.
fn held(payload: Bytes, hold: Option<Hold>) -> Bytes {
    let payload =
        if payload.len() <= COPY_BYTES { Bytes::copy_from_slice(&payload) } else { payload };
    match hold {
        None => payload,
        Some(hold) => hold.cover(payload),
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::{Budget, Code, Executed, budget::MIN_BUDGET_BYTES};

    use super::*;

    fn message(bytes: usize) -> Message {
        Message {
            subject: "a".into(),
            reply: None,
            payload: vec![7; bytes].into(),
            headers: None,
            status: None,
            description: None,
            length: bytes + 1,
        }
    }

    #[test]
    fn a_request_is_charged_until_the_last_of_its_payload_is_gone() {
        let budget = Budget::new(MIN_BUDGET_BYTES);
        let account = budget.open();
        for bytes in [0, 10, 100 << 10] {
            let mut message = message(bytes);
            request(Some(&account), &mut message).unwrap();
            let part = message.payload.slice(bytes / 2..);
            drop(message);
            let charged = budget.used(BudgetUse::Frames);
            assert!((bytes..bytes + (4 << 10)).contains(&charged), "{bytes}: {charged}");
            drop(part);
            assert_eq!(budget.total(), 0);
        }
    }

    #[test]
    fn a_request_without_room_is_refused_and_let_go_of() {
        let budget = Budget::new(MIN_BUDGET_BYTES);
        let account = budget.open();
        let mut large = message(budget.share());
        let refusal = request(Some(&account), &mut large).unwrap_err();
        assert_eq!((refusal.code(), refusal.executed()), (Code::Overloaded, Executed::No));
        assert!(large.payload.is_empty());
        assert_eq!(budget.total(), 0);
        large = message(budget.share());
        assert!(request(None, &mut large).is_ok() && large.payload.len() == budget.share());
    }

    #[test]
    fn a_short_reply_needs_no_room_and_a_long_one_does() {
        let budget = Budget::new(MIN_BUDGET_BYTES);
        let account = budget.open();
        let _all = account.hold(BudgetUse::Kept, budget.share(), Work::Running);
        assert!(reply(Some(&account), &mut message(FREE_REPLY_BYTES)));
        let mut long = message(FREE_REPLY_BYTES + 1);
        assert!(!reply(Some(&account), &mut long) && long.payload.is_empty());
        let other = budget.open();
        let mut long = message(FREE_REPLY_BYTES + 1);
        assert!(reply(Some(&other), &mut long));
        assert_eq!(budget.used(BudgetUse::Queued), FREE_REPLY_BYTES + 1);
        drop(long);
        assert_eq!(budget.used(BudgetUse::Queued), 0);
    }
}
