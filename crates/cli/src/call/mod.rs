//! `sinew call`: one request, its items as they come, and an exit code that says how it ended.

mod args;
mod ends;
mod explain;
mod input;
mod no_instance;
mod output;
mod payload_style;
mod progress;
mod token;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use sinew::{
    Client, ConnectionEvent, ConnectionEvents, Error, Instance, ManyOut, Outcome, PushRouter,
    RouterMode, Runtime,
};
use sinew_telemetry::{console::tell, printable};
use tokio::time::{sleep, timeout};

pub(crate) use self::args::CallArgs;
use self::{
    ends::{Deadline, Ends},
    no_instance::NoInstance,
    output::Output,
    payload_style::PayloadStyle,
    progress::{Progress, Stage},
};
use crate::{
    exit::{self, Exit, Failure},
    settings::Settings,
};

/// How long the handler's own end is waited for when the output cannot be written.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// Calls an endpoint and prints its items. `begun` is when the process did, from which on the
/// deadline counts. Reports its own end, and shuts down behind that.
pub(crate) async fn run(
    settings: &Settings,
    args: CallArgs,
    begun: Instant,
) -> Result<Exit, Failure> {
    let deadline = Deadline::new(begun, args.timeout);
    let ends = Ends::new(deadline)?;
    let progress = Progress::default();
    let call = Call { settings, args: &args, deadline, progress: &progress };
    let ended = tokio::select! {
        biased;
        ended = Box::pin(call.run()) => ended,
        ended = ends.wait(&progress) => ended,
    };
    let exit = ended.unwrap_or_else(Failure::report);
    progress.close(Deadline::left_for_goodbye(deadline)).await;
    Ok(exit)
}

/// What `--trace` says: a line for each event, at the time since the command began to call.
fn tracing_events() -> ConnectionEvents {
    let begun = Instant::now();
    ConnectionEvents::to(Arc::new(move |event: &ConnectionEvent| {
        let line = format!("{:>9.3}s {event}", begun.elapsed().as_secs_f64());
        tell(&printable(&line));
    }))
}

/// Says how another process goes on with the response.
fn say_token(response: &ManyOut<Bytes>) {
    match response.resume_token() {
        Some(token) => tell(&format!("resume token: {token}")),
        None => tell("resume token: none, as the response is not kept for other processes"),
    }
}

/// One call on its way.
struct Call<'a> {
    settings: &'a Settings,
    args: &'a CallArgs,
    deadline: Option<Deadline>,
    progress: &'a Progress,
}

impl Call<'_> {
    async fn run(&self) -> Result<Exit, Failure> {
        let headers = self.args.headers()?;
        let token = self.args.token().await?;
        let data = if token.is_some() { None } else { self.args.input.read().await? };
        self.progress.at(Stage::Starting);
        let waiting = |what: &str| self.progress.at(Stage::WaitingFor(what.to_owned()));
        let events = if self.args.trace { tracing_events() } else { ConnectionEvents::default() };
        let runtime = self.settings.runtime_telling(events, &waiting).await?;
        self.progress.started(runtime.clone());
        self.progress.at(Stage::Looking);
        let client = runtime.client(self.args.name.clone());
        let instance = self.find(&runtime, &client).await?;

        let style = PayloadStyle::of(&instance, self.args.json);
        let at = self.deadline.map(|deadline| deadline.at);
        let request = style.request(data, at, self.args.limits(), headers)?;
        let context = request.context().clone();
        self.progress.asking(context.clone());
        let mode = self.args.instance.map_or(self.args.mode.into(), RouterMode::Direct);
        let router = PushRouter::<Bytes, Bytes>::from_client(client, mode).await?;
        let mut moves = None;
        let asked = match &token {
            Some(token) => router.resume(token, context.clone()).await,
            None => router.generate_explained(request).await.map(|(response, explanation)| {
                if self.args.explain {
                    tell(&explain::explained(&explanation));
                    moves = Some(explanation.moves);
                }
                response
            }),
        };
        let response = match asked {
            Ok(response) => response,
            Err(error) => return exit::of_refusal(error, &context),
        };
        if self.args.print_token {
            say_token(&response);
        }
        self.progress.at(Stage::Printing);
        let answered = answer(response, style, self.args.trace).await?;
        moves.iter().flat_map(explain::moved).for_each(|line| tell(&line));
        match answered {
            // Why it broke off is in the error.
            (Outcome::Truncated { .. }, Some(error)) => exit::of_refusal(error, &context),
            (outcome, _) => exit::of_outcome(&outcome, &context),
        }
    }

    /// The first instance that could serve the call, waiting for one to appear: at least until
    /// the discovery has answered once.
    async fn find(&self, runtime: &Runtime, client: &Client) -> Result<Arc<Instance>, Failure> {
        let begun = Instant::now();
        let mut view = runtime.instances();
        let id = self.args.instance;
        let wanted = |instance: &&Arc<Instance>| id.is_none_or(|id| id == instance.id);
        let appears = async {
            loop {
                if let Some(found) = client.instances().iter().find(wanted) {
                    return Arc::clone(found);
                }
                if view.changed().await.is_none() {
                    // Of a discovery that has ended, the wait below says what is known.
                    std::future::pending::<()>().await;
                }
            }
        };
        let left = self.deadline.map(|deadline| deadline.at.saturating_duration_since(begun));
        let wait = left.map_or(self.args.wait, |left| left.min(self.args.wait));
        let in_vain = async {
            let (looked, ()) = tokio::join!(runtime.browse(Some(&self.args.name)), sleep(wait));
            looked
        };
        tokio::select! {
            biased;
            found = appears => Ok(found),
            looked = in_vain => {
                looked?;
                let nobody = NoInstance { settings: self.settings, args: self.args, runtime, client };
                Err(nobody.failure(begun.elapsed())?)
            }
        }
    }
}

/// Prints a response to its end: how it ended, and the error that said so.
async fn answer(
    mut response: ManyOut<Bytes>,
    style: PayloadStyle,
    traced: bool,
) -> Result<(Outcome, Option<Error>), Failure> {
    let error = match print(&mut response, style, traced).await {
        Ok(error) => error,
        Err(failure) => {
            // The handler is told, and its end waited for a little.
            response.context().kill();
            let end = async { while response.next().await.is_some() {} };
            let _ = timeout(CANCEL_LIMIT, end).await;
            return Err(failure);
        }
    };
    let complete = Outcome::Complete { items: response.received() };
    Ok((response.outcome().cloned().unwrap_or(complete), error))
}

/// Prints items until the end. Items that come together are written together.
async fn print(
    response: &mut ManyOut<Bytes>,
    style: PayloadStyle,
    traced: bool,
) -> Result<Option<Error>, Failure> {
    let (mut output, mut moves) = (Output::stdout(), 0);
    loop {
        let ready: Option<Option<Result<Bytes, Error>>> = response.next().now_or_never();
        if ready.is_none() || output.is_full() {
            output.write().await?;
        }
        let next = match ready {
            Some(next) => next,
            None => response.next().await,
        };
        if traced {
            let moved = response.migrations();
            moved.iter().skip(moves).for_each(|moved| tell(&format!("the response moved {moved}")));
            moves = moved.len();
        }
        match next {
            Some(Ok(item)) => style.print(&item, output.buffer())?,
            Some(Err(error)) => return output.finish().await.map(|()| Some(error)),
            None => return output.finish().await.map(|()| None),
        }
    }
}
