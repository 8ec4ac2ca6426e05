//! `sinew call`: one request, its items as they come, and an exit code that says how it ended.

mod args;
mod dialect;
mod ends;
mod explain;
mod input;
mod output;
mod progress;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use sinew::{Client, Error, Instance, ManyOut, Outcome, PushRouter, RouterMode, Runtime};
use sinew_telemetry::{console::tell, printable};
use tokio::time::timeout;

pub(crate) use self::args::CallArgs;
use self::{
    dialect::Dialect,
    ends::{Deadline, Ends},
    output::Output,
    progress::{Progress, Stage},
};
use crate::{
    exit::{self, Exit, Failure},
    settings::Settings,
    wording::seconds,
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

/// One call on its way.
struct Call<'a> {
    settings: &'a Settings,
    args: &'a CallArgs,
    deadline: Option<Deadline>,
    progress: &'a Progress,
}

impl Call<'_> {
    async fn run(&self) -> Result<Exit, Failure> {
        let data = self.args.input.read().await?;
        self.progress.at(Stage::Starting);
        let waiting = |what: &str| self.progress.at(Stage::WaitingFor(what.to_owned()));
        let runtime = self.settings.runtime(&waiting).await?;
        self.progress.started(runtime.clone());
        self.progress.at(Stage::Looking);
        let client = runtime.client(self.args.name.clone());
        let instance = self.find(&runtime, &client).await?;

        let dialect = Dialect::of(&instance, self.args.json);
        let at = self.deadline.map(|deadline| deadline.at);
        let request = dialect.request(data, at, self.args.limits(), &self.args.headers)?;
        let context = request.context().clone();
        self.progress.asking(context.clone());
        let mode = self.args.instance.map_or(self.args.mode.into(), RouterMode::Direct);
        let router = PushRouter::<Bytes, Bytes>::from_client(client, mode).await?;
        let response = match router.generate_explained(request).await {
            Ok((response, explanation)) => {
                if self.args.explain {
                    tell(&explain::explained(&explanation));
                }
                response
            }
            Err(error) => return exit::of_refusal(error, &context),
        };
        self.progress.at(Stage::Printing);
        match answer(response, dialect).await? {
            // Why it broke off is in the error.
            (Outcome::Truncated { .. }, Some(error)) => exit::of_refusal(error, &context),
            (outcome, _) => exit::of_outcome(&outcome, &context),
        }
    }

    /// The first instance that could serve the call, waiting for one to appear.
    async fn find(&self, runtime: &Runtime, client: &Client) -> Result<Arc<Instance>, Failure> {
        let begun = Instant::now();
        let left = self.deadline.map(|deadline| deadline.at.saturating_duration_since(begun));
        let wait = left.map_or(self.args.wait, |left| left.min(self.args.wait));
        let mut view = runtime.instances();
        let id = self.args.instance;
        let wanted = |instance: &&Arc<Instance>| id.is_none_or(|id| id == instance.id);
        let appears = async {
            loop {
                if let Some(found) = client.instances().iter().find(wanted) {
                    return Some(Arc::clone(found));
                }
                view.changed().await?;
            }
        };
        match timeout(wait, appears).await {
            Ok(Some(found)) => Ok(found),
            _ => Err(self.nobody(client, begun.elapsed())?),
        }
    }

    fn nobody(&self, client: &Client, waited: Duration) -> Result<Failure, Failure> {
        let CallArgs { name, wait, .. } = self.args;
        let place = self.settings.config()?.discovery.to_string();
        let waited = match wait.is_zero() {
            true => "looked once".to_owned(),
            false => format!("waited {}", seconds(waited)),
        };
        let (known, sinew) = (client.instance_ids(), self.settings.same_place());
        let failure = |which: &str| {
            let message = format!("No instances found for {name}{which} in {place} ({waited})");
            Failure::new(Exit::NoInstances, printable(&message))
        };
        Ok(match self.args.instance {
            Some(id) if !known.is_empty() => {
                let shown: Vec<_> = known.iter().take(8).map(ToString::to_string).collect();
                let more = if known.len() > shown.len() { ", ..." } else { "" };
                failure(&format!(" with id {id}"))
                    .hint(format!("there are {}{more}: ask one of these", shown.join(", ")))
            }
            _ => failure("").hint(format!(
                "start a worker with: {sinew} serve {name} -- COMMAND; see who is there with: \
                 {sinew} ls"
            )),
        })
    }
}

/// Prints a response to its end: how it ended, and the error that said so.
async fn answer(
    mut response: ManyOut<Bytes>,
    dialect: Dialect,
) -> Result<(Outcome, Option<Error>), Failure> {
    let error = match print(&mut response, dialect).await {
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
async fn print(response: &mut ManyOut<Bytes>, dialect: Dialect) -> Result<Option<Error>, Failure> {
    let mut output = Output::stdout();
    loop {
        let ready: Option<Option<Result<Bytes, Error>>> = response.next().now_or_never();
        if ready.is_none() || output.is_full() {
            output.write().await?;
        }
        let next = match ready {
            Some(next) => next,
            None => response.next().await,
        };
        match next {
            Some(Ok(item)) => dialect.print(&item, output.buffer())?,
            Some(Err(error)) => return output.finish().await.map(|()| Some(error)),
            None => return output.finish().await.map(|()| None),
        }
    }
}
