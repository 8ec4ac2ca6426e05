//! `sinew call`: one request, its items as they come, and an exit code that says how it ended.

mod args;
mod dialect;
mod output;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use sinew::{
    CancelReason, Context, Error, Instance, ManyOut, Outcome, PushRouter, RouterMode, Runtime,
    SingleIn,
};

pub(crate) use self::args::CallArgs;
use self::{dialect::Dialect, output::Output};
use tokio::time::{sleep, sleep_until, timeout};

use crate::{
    exit::{self, Exit, Failure},
    settings::Settings,
    signals::Interrupts,
};

/// How long the handler's own end is waited for behind an interruption.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// Calls an endpoint and prints its items.
pub(crate) async fn run(settings: &Settings, args: CallArgs) -> Result<Exit, Failure> {
    let data = args.input.read()?;
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let runtime = settings.runtime().await?;
    let mut interrupts = Interrupts::new()?;
    let wait = args.timeout.map_or(args.wait, |timeout| timeout.min(args.wait));
    let found = tokio::select! {
        found = find(&runtime, &args, wait) => found,
        () = interrupts.next() => return Ok(Exit::Cancelled),
    };
    let Some(instance) = found else { return Err(nobody(settings, &args)) };

    let dialect = Dialect::of(&instance, args.json);
    let request = dialect.request(data, deadline)?;
    let context = request.context().clone();
    let watch = tokio::spawn(watch(interrupts, context.clone()));
    let client = runtime.client(args.name.clone());
    let mode = args.instance.map_or(args.mode.into(), RouterMode::Direct);
    let router = PushRouter::from_client(client, mode).await?;
    let ended = answer(&router, request, dialect).await;
    watch.abort();
    let exit = match ended {
        Ok(outcome) => exit::of_outcome(&outcome),
        Err(End::Failure(failure)) => Err(failure),
        // The end that was asked for, whatever word it comes with.
        Err(End::Error(_)) if context.reason() == Some(CancelReason::Caller) => Ok(Exit::Cancelled),
        Err(End::Error(error)) => Err(error.into()),
    };
    runtime.shutdown(Duration::ZERO).await;
    exit
}

/// The first instance that could serve the call, waiting for one to appear.
async fn find(runtime: &Runtime, args: &CallArgs, wait: Duration) -> Option<Arc<Instance>> {
    let client = runtime.client(args.name.clone());
    let mut view = runtime.instances();
    let wanted = |instance: &&Arc<Instance>| args.instance.is_none_or(|id| id == instance.id);
    let appears = async {
        loop {
            if let Some(found) = client.instances().iter().find(wanted) {
                return Some(Arc::clone(found));
            }
            view.changed().await?;
        }
    };
    timeout(wait, appears).await.ok().flatten()
}

fn nobody(settings: &Settings, args: &CallArgs) -> Failure {
    let name = &args.name;
    let which = args.instance.map_or_else(String::new, |id| format!(" as instance {id}"));
    let message = format!("nobody serves {name}{which} (waited {:?})", args.wait);
    let sinew = settings.same_place();
    Failure::new(Exit::NoInstances, message).hint(format!(
        "start a worker with: {sinew} serve {name} -- COMMAND; see who is there with: {sinew} ls"
    ))
}

/// Cancels the request at the first signal; ends the process at the second, or when the request
/// does not end behind its cancel or its deadline.
async fn watch(mut interrupts: Interrupts, context: Context) {
    let deadline = context.deadline().map(|deadline| (deadline + CANCEL_LIMIT).into());
    let exit = tokio::select! {
        () = interrupts.next() => Exit::Cancelled,
        () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => Exit::TimedOut,
    };
    if exit == Exit::Cancelled {
        context.kill();
        tokio::select! {
            () = interrupts.next() => {}
            () = sleep(CANCEL_LIMIT) => {}
        }
    }
    // Output may be stuck in a pipe that nobody reads, so the way through main is not open.
    std::process::exit(exit.code());
}

/// Why a call ended before its stream did.
enum End {
    Error(Error),
    Failure(Failure),
}

async fn answer(
    router: &PushRouter<Bytes, Bytes>,
    request: SingleIn<Bytes>,
    dialect: Dialect,
) -> Result<Outcome, End> {
    let mut response = router.generate(request).await.map_err(End::Error)?;
    match print(&mut response, dialect).await {
        Ok(()) => {}
        Err(failure) => {
            // Nobody reads on: the handler is told, and its end waited for a little.
            response.context().kill();
            let end = async { while response.next().await.is_some() {} };
            let _ = timeout(CANCEL_LIMIT, end).await;
            return Err(End::Failure(failure));
        }
    }
    let complete = Outcome::Complete { items: response.received() };
    Ok(response.outcome().cloned().unwrap_or(complete))
}

/// Prints items until the end. Items that come together are written together.
async fn print(response: &mut ManyOut<Bytes>, dialect: Dialect) -> Result<(), Failure> {
    let mut output = Output::stdout();
    loop {
        let ready = response.next().now_or_never();
        if ready.is_none() || output.is_full() {
            output.write().await?;
        }
        let next = match ready {
            Some(next) => next,
            None => response.next().await,
        };
        match next {
            Some(Ok(item)) => dialect.print(&item, output.buffer())?,
            // The outcome tells it.
            Some(Err(_)) | None => return output.write().await,
        }
    }
}
