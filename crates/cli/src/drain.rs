//! `sinew drain`: takes workers of this host out of service without losing a request.

use clap::Args;
use futures_util::{StreamExt, stream::select_all};
use sinew::{
    EndpointName, InstanceId,
    control::{ControlledProcess, ControlledProcesses, DrainProgress, DrainRequest},
};
use sinew_telemetry::console::tell;

use crate::{
    exit::{Exit, Failure},
    output::print,
    serve::instance,
    settings::Settings,
    signals::Interrupts,
};

/// Take endpoints of this user's processes on this host out of service.
///
/// Each process withdraws the endpoint from discovery, refuses new requests so that routers send
/// them elsewhere, hands over the streams that another instance can continue, and lets the others
/// finish within its grace. `sinew serve` ends afterwards. This command waits until all are
/// drained; if it is interrupted, the drain goes on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sinew drain text/words/split        # every instance of it
  sinew drain 2a                      # the instance with this id, as sinew ls shows it")]
pub(crate) struct DrainArgs {
    /// An endpoint, namespace/component/endpoint, or the id of an instance.
    #[arg(value_name = "NAME|INSTANCE", value_parser = target)]
    target: Target,
}

/// What to drain.
#[derive(Debug, Clone)]
enum Target {
    Endpoint(EndpointName),
    Instance(InstanceId),
}

impl Target {
    fn request(&self) -> DrainRequest {
        match self {
            Self::Endpoint(name) => DrainRequest::Endpoint(name.clone()),
            Self::Instance(id) => DrainRequest::Instance(*id),
        }
    }
}

fn target(text: &str) -> Result<Target, String> {
    if text.contains('/') {
        return text.parse().map(Target::Endpoint).map_err(|error| format!("{error}"));
    }
    instance(text).map(Target::Instance)
}

/// Drains and waits for the end.
pub(crate) async fn run(settings: &Settings, args: DrainArgs) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::new()?;
    match interrupts.or(drain(settings, &args.target)).await {
        Some(exit) => exit,
        None => Ok(Exit::Cancelled),
    }
}

async fn drain(settings: &Settings, target: &Target) -> Result<Exit, Failure> {
    let config = settings.config()?;
    let processes = ControlledProcesses::find(&config).await.map_err(Failure::serving)?;
    let request = target.request();
    let is_meant = |one: &&ControlledProcess| {
        one.status.endpoints.iter().any(|it| request.includes(&it.endpoint, it.instance))
    };
    let mut drains = Vec::new();
    for process in processes.all().iter().filter(is_meant) {
        let pid = process.status.pid;
        let progress = processes.drain(process, request.clone()).await?;
        drains.push(progress.map(move |event| (pid, event)));
    }
    if drains.is_empty() {
        let folder = config.runtime_dir.join("control");
        let message = format!("no process of this user serves {}", shown(target));
        let hint = format!(
            "sinew drain reaches processes whose control sockets are in {}; see sinew ls for others",
            folder.display()
        );
        return Err(Failure::new(Exit::NoInstances, message).hint(hint));
    }
    let mut drains = select_all(drains);
    let mut exit = Exit::Complete;
    while let Some((pid, event)) = drains.next().await {
        match event? {
            DrainProgress::Draining { in_flight, grace } => tell(&format!(
                "process {pid}: {in_flight} requests in flight, which have {} s to end",
                grace.as_secs_f32()
            )),
            DrainProgress::Drained { endpoint, instance, finished, handed_over, cut } => {
                print(&format!(
                    "{endpoint} {instance} (process {pid}) drained: {finished} finished, \
                     {handed_over} handed over, {cut} cut\n"
                ))?;
                if cut > 0 {
                    exit = Exit::Cut;
                }
            }
            _ => {}
        }
    }
    processes.close().await;
    Ok(exit)
}

fn shown(target: &Target) -> String {
    match target {
        Target::Endpoint(name) => name.to_string(),
        Target::Instance(id) => format!("instance {id}"),
    }
}
