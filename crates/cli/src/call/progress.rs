//! How far a call has come.

use std::{sync::OnceLock, time::Duration};

use parking_lot::Mutex;
use sinew::{Context, Runtime};

use crate::{
    exit::{Exit, Failure},
    text_layout::seconds,
};

/// How far a call has come, for what ends it from outside.
#[derive(Default)]
pub(crate) struct Progress {
    stage: Mutex<Stage>,
    /// Of the request, once there is one.
    context: OnceLock<Context>,
    /// What is to be shut down, once it runs.
    runtime: OnceLock<Runtime>,
}

/// What a call is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    Reading,
    Starting,
    /// A server that discovery or requests go through.
    WaitingFor(String),
    Looking,
    Asking,
    Printing,
}

impl Progress {
    pub(crate) fn at(&self, stage: Stage) {
        *self.stage.lock() = stage;
    }

    /// From here on the request is under way.
    pub(crate) fn asking(&self, context: Context) {
        let _ = self.context.set(context);
        self.at(Stage::Asking);
    }

    pub(crate) fn started(&self, runtime: Runtime) {
        let _ = self.runtime.set(runtime);
    }

    /// Cancels the request, if there is one.
    pub(crate) fn cancel(&self) -> bool {
        let context = self.context.get();
        if let Some(context) = context {
            context.kill();
        }
        context.is_some()
    }

    /// The failure of a call that its deadline found here.
    pub(crate) fn late(&self, timeout: Duration) -> Failure {
        let (doing, ran) = match &*self.stage.lock() {
            Stage::Reading => ("the request was read".to_owned(), NOTHING),
            Stage::Starting => ("the command started".to_owned(), NOTHING),
            Stage::WaitingFor(what) => (format!("{what} was waited for"), NOTHING),
            Stage::Looking => ("an instance was looked for".to_owned(), NOTHING),
            Stage::Asking => ("an answer was waited for".to_owned(), MAYBE),
            Stage::Printing => ("items came".to_owned(), BEGUN),
        };
        let message = format!("the deadline of {} passed while {doing}", seconds(timeout));
        Failure::new(Exit::TimedOut, message).hint(ran)
    }

    /// Says goodbye to the peers, within `limit`.
    pub(crate) async fn close(&self, limit: Duration) {
        if let Some(runtime) = self.runtime.get() {
            // What is over by then is cut with the process.
            let _ = tokio::time::timeout(limit, runtime.shutdown(Duration::ZERO)).await;
        }
    }
}

const NOTHING: &str = "nothing was sent, so it is safe to try again; allow more with --timeout";
const MAYBE: &str = "the request may have run, so repeat it only if it may run twice; allow more \
                     with --timeout";
const BEGUN: &str = "the request has run, and what was printed is a true beginning; allow more \
                     with --timeout";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_says_what_it_found_and_whether_a_retry_is_safe() {
        let progress = Progress::default();
        let late = |stage| {
            progress.at(stage);
            let failure = progress.late(Duration::from_millis(200));
            assert_eq!(failure.exit(), Exit::TimedOut);
            failure.to_string()
        };
        let waiting = late(Stage::WaitingFor("NATS at nats://h:4222".to_owned()));
        assert!(waiting.contains("of 0.2 s passed while NATS at nats://h:4222"), "{waiting}");
        assert!(waiting.contains("safe to try again"), "{waiting}");
        assert!(late(Stage::Asking).contains("may have run"));
        assert!(late(Stage::Printing).contains("has run"));
    }
}
