//! `sinew serve`: any program as a streaming endpoint.

mod args;
#[cfg(test)]
mod caller;
mod charge;
mod environment;
mod executable;
mod guard;
mod lines;
mod orphans;
mod output_reader;
mod per_request;
mod persistent;
mod process;
mod request_format;
mod stderr_tail;
mod supervision;

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use sinew::layers::plane::budget::Account;
use sinew::{
    BindPolicy, Config, DiscoverySource, Drained, IncomingOwned, ResponseSink, Retain, Runtime,
    Served,
};
use sinew_telemetry::{HealthReport, Metrics, MetricsError, console::tell};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

pub(crate) use self::{
    args::{ServeArgs, instance},
    guard::{GuardArgs, run as run_guard},
};
use self::{
    per_request::PerRequest, persistent::Persistent, process::CommandLine,
    request_format::RequestFormat, supervision::Supervision,
};
use crate::{
    exit::{Exit, Failure},
    settings::{self, Settings},
    signals::Interrupts,
};

/// What a cut may take beyond the programs' own time to end.
const CUT_MARGIN: Duration = Duration::from_secs(2);

/// How often the counts of repeated warnings are looked at.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Serves until a signal, then finishes what is under way.
pub(crate) async fn run(settings: &Settings, args: ServeArgs) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::new()?;
    let command = CommandLine::checked(args.command.clone()).map_err(|message| {
        Failure::new(Exit::Usage, message)
            .hint("sinew serve NAME -- COMMAND ARGS; the command is looked for on PATH")
    })?;
    let (config, announced) = config(settings, &args)?;
    let grace = config.grace;
    // Before anything counts: see the documentation of the telemetry crate.
    let metrics = start_metrics(&args, &config).await?;
    let Some(runtime) = interrupts.or(settings::start(config, &|_| {})).await else {
        return Ok(Exit::Cancelled);
    };
    let runtime = runtime.map_err(Failure::serving)?;
    if let Some(metrics) = &metrics {
        report_health(metrics, &runtime);
    }
    let supervision = Supervision::start(&args)?;
    let command = command.under(supervision.clone());
    let work = Work::start(&command, &args, runtime.budget().open())?;
    supervision.say_what_is_withheld();
    let Some(served) = interrupts.or(serve(&runtime, &args, &work)).await else {
        work.cut().await;
        return Ok(Exit::Cancelled);
    };
    let served = served?;
    say_where(settings, announced, &command, &served, metrics.as_ref());

    tokio::select! {
        biased;
        () = interrupts.next() => {}
        () = served.closed() => {}
        never = report_repeats() => match never {},
    }
    if served.in_flight() > 0 {
        let (count, grace) = (served.in_flight(), grace.as_secs_f32());
        tell(&format!("finishing {count} requests within {grace} s; interrupt again to cut them"));
    }
    let (drained, exit) = tokio::select! {
        biased;
        drained = drain(&runtime, &served, grace, &work) => {
            let exit = if drained.is_clean() { Exit::Complete } else { Exit::Cut };
            (Some(drained), exit)
        }
        () = interrupts.next() => {
            // The requests first, so that their callers hear of a shutdown, and not of programs
            // that were killed.
            let ended = tokio::time::timeout(CUT_MARGIN, runtime.shutdown(Duration::ZERO)).await;
            work.cut().await;
            (ended.ok(), Exit::Cancelled)
        }
    };
    supervision.close().await;
    if let Some(metrics) = metrics {
        metrics.shutdown().await;
    }
    if let Some(drained) = drained {
        tell(&format!("ended; requests in flight: {drained}"));
    }
    Ok(exit)
}

/// Reports what was counted of repeated warnings, now and then.
async fn report_repeats() -> Infallible {
    let mut ticks = tokio::time::interval(REPORT_EVERY);
    loop {
        ticks.tick().await;
        sinew_telemetry::report_repeats(false);
    }
}

/// The settings, and whether others can find the endpoint through discovery.
fn config(settings: &Settings, args: &ServeArgs) -> Result<(Config, bool), Failure> {
    let mut config = settings.config()?;
    config.listen = args.listen.unwrap_or(config.listen);
    config.advertise = args.advertise.clone().or(config.advertise);
    config.insecure |= args.insecure;
    config.grace = args.grace.unwrap_or(config.grace);
    config.frame_checks = args.frame_checks.or(config.frame_checks);
    config.memory_budget = args.memory_budget.map(|size| size.0).or(config.memory_budget);
    config.tcp.listen.reserved_descriptors = pipes(args);
    if !args.allow_call_home.is_empty() {
        config.dial_back.allowed_networks.clone_from(&args.allow_call_home);
    }
    let announced = config.discovery.announces();
    if let DiscoverySource::Static(_) | DiscoverySource::Dns(_) = config.discovery {
        // Callers know the address by themselves; there is nowhere to announce it.
        config.discovery = DiscoverySource::Memory;
    }
    Ok((config, announced))
}

/// Descriptors of the programs that run at once: three pipes each, and three more while one starts.
fn pipes(args: &ServeArgs) -> usize {
    const PER_PROGRAM: usize = 3;
    let programs = if args.persistent { 1 } else { args.concurrency.get() };
    PER_PROGRAM * (programs + 1)
}

/// Shows the state of the runtime beside its metrics, as long as there is one.
fn report_health(metrics: &Metrics, runtime: &Runtime) {
    let runtime = runtime.downgrade();
    metrics.report_health(move || match runtime.upgrade() {
        Some(runtime) => {
            let health = runtime.health();
            HealthReport { is_ready: health.is_ready(), json: health.to_json() }
        }
        None => HealthReport { is_ready: false, json: r#"{"status":"stopped"}"#.to_owned() },
    });
}

async fn start_metrics(args: &ServeArgs, config: &Config) -> Result<Option<Metrics>, Failure> {
    let Some(address) = args.metrics else { return Ok(None) };
    let policy = if config.insecure { BindPolicy::Insecure } else { BindPolicy::LoopbackOnly };
    let metrics = Metrics::install(address, policy).await;
    metrics.map(Some).map_err(|error| {
        let is_taken = matches!(error, MetricsError::Bind { .. });
        Failure::listening(if is_taken { Exit::SetUp } else { Exit::Usage }, &error)
    })
}

async fn serve(runtime: &Runtime, args: &ServeArgs, work: &Work) -> Result<Served, Failure> {
    let mut builder = runtime
        .serve_named(args.name.clone())
        .weight(args.weight)
        .idempotent(args.idempotent)
        .continuation(args.continuation.into())
        .max_in_flight(args.concurrency.get());
    if let Some(limit) = args.park_limit {
        builder = builder.park_limit(limit);
    }
    if let Some(grace) = args.resume_grace {
        builder = builder.resume_grace(grace);
    }
    if let Some(time) = args.retain {
        let (items, bytes) = (args.retain_items.get(), args.retain_bytes.0);
        builder = builder.retain(Retain { items, bytes, time });
    }
    if let Some(instance) = args.instance {
        builder = builder.instance(instance);
    }
    builder = match args.persistent {
        true => builder.codecs(["json", "raw"]),
        false => builder.codecs(RequestFormat::CODECS),
    };
    let work = work.clone();
    let answer = move |request, sink| {
        work.take(request, sink);
        std::future::ready(())
    };
    builder.raw(answer).await.map_err(Failure::not_served)
}

/// The one line that says what is served, where, and how to call it.
fn say_where(
    settings: &Settings,
    announced: bool,
    command: &CommandLine,
    served: &Served,
    metrics: Option<&Metrics>,
) {
    let tcp = served.addresses().iter().find(|address| address.scheme() == "tcp");
    let place = tcp.or(served.addresses().first()).map_or("", |address| address.as_str());
    let sinew = match tcp {
        Some(tcp) if !announced => format!("sinew --discovery static:{}", tcp.rest()),
        _ => settings.same_place(),
    };
    let name = served.endpoint();
    if let Some(metrics) = metrics {
        tell(&format!("metrics at http://{}/metrics", metrics.address()));
    }
    let call = format!("{sinew} call {name} --data TEXT");
    tell(&format!("serving {name} at {place}: {command}; call it: {call}"));
}

/// Drains the endpoint, or waits for the drain that somebody else has begun, and ends the runtime.
async fn drain(runtime: &Runtime, served: &Served, grace: Duration, work: &Work) -> Drained {
    let begun = Instant::now();
    let drained = served.drain().await;
    // What is left of the grace is for those who read a retained response.
    let left = runtime.shutdown(grace.saturating_sub(begun.elapsed())).await;
    tracing::debug!(?left, "the runtime has ended");
    work.finish().await;
    drained
}

/// What answers the requests, and the tasks it runs in.
#[derive(Clone)]
struct Work {
    kind: Kind,
    tasks: TaskTracker,
    /// Ends everything at once.
    cut: CancellationToken,
    kill_grace: Duration,
}

#[derive(Clone)]
enum Kind {
    PerRequest(Arc<PerRequest>),
    Persistent(Arc<Persistent>),
}

impl Work {
    fn start(
        command: &CommandLine,
        args: &ServeArgs,
        account: Arc<Account>,
    ) -> Result<Self, Failure> {
        let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
        let (command, grace) = (command.clone(), args.kill_grace);
        let kind = if args.persistent {
            let persistent = Persistent::start(command, grace, cut.clone(), &tasks, account);
            Kind::Persistent(persistent.map_err(|error| {
                Failure::new(Exit::SetUp, format!("cannot start the command: {error}"))
            })?)
        } else {
            let places = args.concurrency.get();
            let program = PerRequest::new(command, places, grace, cut.clone());
            Kind::PerRequest(Arc::new(program.charged_to(account)))
        };
        Ok(Self { kind, tasks, cut, kill_grace: grace })
    }

    /// Answers a request in a task of its own, which outlives a kill: the program has to be ended
    /// then, in order. Admission bounds the number of tasks.
    fn take(&self, request: IncomingOwned, sink: ResponseSink) {
        let span = tracing::Span::current();
        // A task for each kind, so that one which waits for long is no larger than it has to be.
        match self.kind.clone() {
            Kind::PerRequest(program) => {
                let answer = async move { program.answer(request, sink).await };
                self.tasks.spawn(answer.instrument(span));
            }
            Kind::Persistent(program) => {
                if let Some(answer) = program.answer(request, sink) {
                    self.tasks.spawn(answer.instrument(span));
                }
            }
        }
    }

    /// Waits until every program has ended, once no request comes any more.
    async fn finish(&self) {
        if let Kind::Persistent(program) = &self.kind {
            program.close();
        }
        self.tasks.close();
        let limit = 2 * self.kill_grace + CUT_MARGIN;
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            self.cut().await;
        }
    }

    /// Kills every program and waits until it has ended.
    async fn cut(&self) {
        self.cut.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(CUT_MARGIN, self.tasks.wait()).await;
    }
}
