//! Ends whose reason would be on this side, and that only the worker speaks of.

use std::time::Duration;

use sinew::{CancelReason, Code, Context, Error, Executed};

use crate::{
    exit::{Exit, Failure},
    text_layout::seconds,
};

/// The reason of a cancel that came as an error.
pub(crate) fn claimed_reason(error: &Error) -> Option<CancelReason> {
    let by_caller = || error.message().starts_with(&CancelReason::Caller.to_string());
    match error.code() {
        Code::DeadlineExceeded => Some(CancelReason::DeadlineExceeded),
        Code::Cancelled if by_caller() => Some(CancelReason::Caller),
        _ => None,
    }
}

/// A worker may see the deadline pass this much earlier: its clock is another one.
const EARLY: Duration = Duration::from_secs(1);

/// An end whose reason would be here, and is not: it is only what the worker says.
pub(crate) fn claim(
    reason: CancelReason,
    executed: Executed,
    context: &Context,
) -> Option<Failure> {
    let (code, message) = match (reason, context.remaining()) {
        (CancelReason::DeadlineExceeded, Some(left)) if left < EARLY => return None,
        (CancelReason::DeadlineExceeded, left) => {
            let left = left.map_or_else(|| "none".to_owned(), |left| seconds(left) + " left");
            let message =
                format!("the worker says that the deadline passed, and this call has {left}");
            (Code::DeadlineExceeded, message)
        }
        (CancelReason::Caller, _) => {
            let message = "the worker says that the caller cancelled, and this call did not";
            (Code::Cancelled, message.to_owned())
        }
        _ => return None,
    };
    Some(Failure::request(Exit::ShutDown, &Error::new(code, message).with_executed(executed)))
}

#[cfg(test)]
mod tests {
    use sinew::Outcome;

    use super::*;
    use crate::exit::{of_outcome, of_refusal};

    #[test]
    fn what_only_the_worker_says_is_told_as_its_word() {
        let free = Context::new();
        let early = Context::builder().timeout(Duration::from_secs(60)).build();
        for (reason, context, told) in [
            (CancelReason::DeadlineExceeded, &free, "deadline passed, and this call has none"),
            (CancelReason::DeadlineExceeded, &early, " s left"),
            (CancelReason::Caller, &free, "the caller cancelled, and this call did not"),
        ] {
            let of_stream = of_outcome(&Outcome::Cancelled { reason }, context).unwrap_err();
            let of_start = of_refusal(Error::cancelled(reason), context).unwrap_err();
            for failure in [of_stream, of_start] {
                let text = failure.to_string();
                assert_eq!(failure.exit(), Exit::ShutDown, "{text}");
                assert!(text.starts_with("the worker says that ") && text.contains(told), "{text}");
                assert!(text.contains("may run twice") && !text.contains("--timeout"), "{text}");
            }
        }
        let late = Context::builder().timeout(Duration::ZERO).build();
        let error = Error::cancelled(CancelReason::DeadlineExceeded);
        assert_eq!(of_refusal(error, &late).unwrap_err().exit(), Exit::TimedOut);
    }
}
