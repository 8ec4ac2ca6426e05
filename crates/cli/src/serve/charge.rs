//! What is made of requests for programs, charged to the memory budget.

use std::sync::Arc;

use bytes::Bytes;
use sinew::{
    BudgetUse, Error,
    layers::plane::budget::{Account, Work},
};

/// Fewer bytes are not charged: how many requests there are at once is bounded.
const UNCHARGED_BYTES: usize = 4 << 10;

/// The same bytes, charged for as long as somebody holds some of them.
///
/// # Errors
/// The budget has no room: nothing has run.
pub(crate) fn charged(bytes: Bytes, account: Option<&Arc<Account>>) -> Result<Bytes, Error> {
    let Some(account) = account.filter(|_| bytes.len() > UNCHARGED_BYTES) else {
        return Ok(bytes);
    };
    let hold = account.hold(BudgetUse::Queued, bytes.len(), Work::New);
    let hold = hold.ok_or_else(|| account.budget().refusal())?;
    Ok(hold.cover(bytes))
}

#[cfg(test)]
mod tests {
    use sinew::{Budget, Code, Executed};

    use super::*;

    #[test]
    fn large_inputs_are_charged_until_they_are_written() {
        let budget = Budget::new(8 << 20);
        let account = budget.open();
        let large = || Bytes::from(vec![0; 1 << 20]);
        let first = charged(large(), Some(&account)).unwrap();
        let _second = charged(large(), Some(&account)).unwrap();
        let error = charged(large(), Some(&account)).unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));
        assert!(charged("short".into(), Some(&account)).is_ok());
        drop(first);
        assert_eq!(budget.used(BudgetUse::Queued), 1 << 20);
    }
}
