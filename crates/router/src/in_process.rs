//! Calls to engines in this process, with values that are not encoded.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use sinew_plane::{CallLimits, Context, Error, Executed, ItemWait, ManyOut, SingleIn, panicked};
use sinew_registry::LocalCall;

use crate::{active_attempt::ActiveAttempt, addressed::cancelled};

/// Runs the engine in the caller's task. A panic of the engine fails the request and does not reach
/// the caller. The request is admitted at once, so only the limits for items apply.
pub(crate) async fn call<Req, Resp: Send + 'static>(
    call: LocalCall<Req, Resp>,
    data: Req,
    context: &Context,
    limits: CallLimits,
    attempt: ActiveAttempt,
) -> Result<ManyOut<Resp>, Error> {
    // If the caller goes away before there is a response to drop, the engine has to hear of it.
    let unfinished = KillOnDrop(Some(context));
    let mut wait = ItemWait::new(context.limits().or(limits));
    let request = SingleIn::with_context(data, context.clone());
    let answer = call.generate(request);
    let answer = AssertUnwindSafe(answer).catch_unwind();
    let values = tokio::select! {
        biased;
        values = answer => values.unwrap_or_else(|_| Err(panicked())),
        () = context.killed() => Err(cancelled(context, Executed::Yes)),
        // What is unfinished is killed on the way out.
        error = passed(&mut wait) => return Err(error.with_executed(Executed::Yes)),
    };
    unfinished.done();
    Ok(values?.watched(context, wait).on_end(attempt))
}

/// Waits for a limit of the call to pass.
async fn passed(wait: &mut Option<Box<ItemWait>>) -> Error {
    match wait {
        Some(wait) => std::future::poll_fn(|cx| wait.poll_passed(cx)).await,
        None => std::future::pending().await,
    }
}

struct KillOnDrop<'a>(Option<&'a Context>);

impl KillOnDrop<'_> {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(context) = self.0 {
            context.kill();
        }
    }
}
