//! The bound of every wait in a case.

use std::{fmt::Display, panic::Location, time::Duration};

/// How long a case waits for any one thing before it fails. Only failure takes this long: it
/// covers two busy cores in a debug build, and the resume grace of 10 s that a transport may
/// give a lost stream.
pub const PATIENCE: Duration = Duration::from_secs(20);

tokio::task_local! {
    /// The case that runs, for its failures to name.
    pub(crate) static CASE: &'static str;
}

/// Waits for `future`, at most [`PATIENCE`].
///
/// # Panics
/// When that is over, with the name of the case, what it waited for, and where.
#[track_caller]
pub fn within<F: Future>(awaited: impl Display, future: F) -> impl Future<Output = F::Output> {
    let place = Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => {
                let case = CASE.try_with(|case| *case).unwrap_or("outside of a case");
                panic!("{case}: waited {PATIENCE:?} for {awaited} ({place})");
            }
        }
    }
}

/// Waits, for at most [`PATIENCE`], until `holds` returns true. Calls `holds` again and again, for
/// conditions without a notification.
///
/// # Panics
/// `holds` does not return true within [`PATIENCE`]. The message is that of [`within`].
#[track_caller]
pub fn until(awaited: impl Display, mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    within(awaited, async move {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_never_ends_names_the_case_and_what_it_waited_for() {
        let waiting = CASE.scope("a::case", within("a miracle", std::future::pending::<()>()));
        let failure = tokio::spawn(waiting).await.unwrap_err().into_panic();
        let message = failure.downcast_ref::<String>().unwrap();
        assert!(message.contains("a::case") && message.contains("a miracle"), "{message}");
        assert!(message.contains("guard.rs"), "{message}");
    }
}
