//! `sinew migrate`: moves the streams of an endpoint to another transport while they run.

use std::time::Duration;

use clap::Args;
use sinew::{EndpointName, Instance, PlanePolicy, RollBack, Runtime, TransportId};
use sinew_telemetry::printable;

use crate::{
    duration::{self, TimeOption as _},
    exit::{Exit, Failure},
    ls::close,
    output::print,
    settings::Settings,
    signals::Interrupts,
    text_layout::seconds,
};

/// Move the streams of an endpoint to another transport, while they run.
///
/// Writes a policy into discovery, which all routers of the endpoint follow: new streams first, then
/// those that run, one share after another. No stream loses an item by it. A router goes back by
/// itself, and logs it, when streams on the new transport end by errors more often, or their items
/// come more slowly, than the margins allow. The discovery must be one that can be written: a folder
/// or etcd.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sinew migrate text/words/split --to tcp --dry-run      # what would change, for each instance
  sinew migrate text/words/split --to tcp --percent 10   # a tenth of the streams
  sinew migrate text/words/split --to tcp                # all
  sinew migrate text/words/split --end                   # new streams as without a policy")]
pub(crate) struct MigrateArgs {
    /// The endpoint: namespace/component/endpoint.
    name: EndpointName,
    /// The transport that its streams are to use: tcp, unix, ...
    #[arg(long, value_name = "TRANSPORT", required_unless_present = "end")]
    to: Option<String>,
    /// The share of the streams, in percent.
    #[arg(long, value_name = "N", default_value = "100",
          value_parser = clap::value_parser!(u8).range(1..=100))]
    percent: u8,
    /// When the policy ends: streams that run then stay where they are.
    #[arg(long, time(), default_value = "1h", value_parser = duration::parse_some)]
    expires: Duration,
    /// Routers go back when the share of the streams that end by an error of the transport is higher
    /// there by more points of a percentage than this.
    #[arg(long, value_name = "POINTS", default_value = "2",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    max_error_points: u8,
    /// Routers go back when the mean time between items is longer there by more than this.
    #[arg(long, value_name = "PERCENT", default_value = "50",
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    max_gap_percent: u16,
    /// Who sets the policy, for the logs of routers. Default: the number of this user, and this host.
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Print what would change, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Remove the policy of the endpoint instead.
    #[arg(long, conflicts_with_all = ["to", "percent", "expires", "max_error_points",
          "max_gap_percent", "author", "dry_run"])]
    end: bool,
}

/// Stores the policy, or removes it.
pub(crate) async fn run(settings: &Settings, args: MigrateArgs) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::new()?;
    let done = async {
        let runtime = settings.runtime(&|_| {}).await?;
        let done = match &args.to {
            Some(to) => migrate(settings, &runtime, &args, TransportId::new(to.as_str())).await,
            None => end(&runtime, &args.name).await,
        };
        close(&runtime).await;
        done
    };
    match interrupts.or(done).await {
        Some(done) => done.map(|()| Exit::Complete),
        None => Ok(Exit::Cancelled),
    }
}

async fn end(runtime: &Runtime, name: &EndpointName) -> Result<(), Failure> {
    let was_there = runtime.remove_policy(name).await?;
    let said = if was_there { "the policy is removed" } else { "there is no policy" };
    print(&format!("{name}: {said}\n"))
}

async fn migrate(
    settings: &Settings,
    runtime: &Runtime,
    args: &MigrateArgs,
    to: TransportId,
) -> Result<(), Failure> {
    let discovery = settings.config()?.discovery;
    // Said before the rest, also to a dry run: nothing that follows could help.
    if runtime.watch_policy(&args.name)?.is_none() {
        let message = format!("{discovery} cannot be written, so it holds no policies");
        let hint = "use --discovery file:PATH or etcd://HOST:PORT, as workers and callers do";
        return Err(Failure::new(Exit::SetUp, message).hint(hint));
    }
    let snapshot = runtime.browse(Some(&args.name)).await?.snapshot();
    let instances: Vec<_> = snapshot.of(&args.name).map(|one| &**one).collect();
    if instances.is_empty() {
        let message = format!("no instance serves {} in {discovery}", args.name);
        let hint = format!("{} ls shows what is served", settings.same_place());
        return Err(Failure::new(Exit::NoInstances, message).hint(hint));
    }
    if !instances.iter().any(|one| has(runtime, one, &to)) {
        return Err(unreachable_over(&args.name, &to, &instances));
    }
    if args.dry_run {
        let lines = instances.iter().map(|one| preview(runtime, one, &to, args.percent));
        let lines: String = lines.collect();
        return print(&format!("{lines}{}: dry run, no policy was written\n", args.name));
    }
    let policy = PlanePolicy::new(args.name.clone(), to)
        .percent(args.percent)
        .by(args.author.clone().unwrap_or_else(this_user))
        .lasting(args.expires)
        .rolled_back(RollBack {
            error_percent: args.max_error_points,
            gap_percent: args.max_gap_percent,
        });
    let stored = runtime.put_policy(policy).await?;
    print(&format!(
        "{}: {} % of the streams to {} for {}, policy version {} by {}\n",
        stored.endpoint,
        stored.percent,
        stored.transport,
        seconds(args.expires),
        stored.version,
        printable(&stored.author),
    ))
}

/// True if the instance has an address for the transport, also one that does not lead here.
fn has(runtime: &Runtime, instance: &Instance, to: &TransportId) -> bool {
    let mut far = instance.unreachable.iter().map(|one| one.address.scheme());
    far.any(|scheme| scheme == to.as_str())
        || instance.addresses.iter().any(|address| address.scheme() == to.as_str())
        || runtime.transports_to(instance).contains(to)
}

/// What an instance's streams use now, as seen from this host, and then.
fn preview(runtime: &Runtime, one: &Instance, to: &TransportId, percent: u8) -> String {
    let transports = runtime.transports_to(one);
    let now = transports.first().map_or("not reachable from here", |now| now.as_str());
    let then = if !has(runtime, one, to) {
        format!("stays: it has no address for {to}")
    } else if now == to.as_str() {
        "stays".to_owned()
    } else {
        format!("{to} for {percent} % of the streams")
    };
    format!("{} {}: {now} -> {then}\n", one.endpoint, one.id)
}

/// Which instance has which transports.
fn unreachable_over(name: &EndpointName, to: &TransportId, instances: &[&Instance]) -> Failure {
    const NAMED: usize = 8;
    let message = format!("no instance of {name} has an address for {}", printable(to.as_str()));
    let has = instances.iter().take(NAMED).map(|one| {
        let mut schemes: Vec<_> = one.addresses.iter().map(|address| address.scheme()).collect();
        schemes.extend(one.unreachable.iter().map(|far| far.address.scheme()));
        schemes.dedup();
        format!("{} has {}", one.id, printable(&schemes.join(", ")))
    });
    let mut hint = has.collect::<Vec<_>>().join("; ");
    if instances.len() > NAMED {
        hint.push_str(&format!("; and {} more", instances.len() - NAMED));
    }
    Failure::new(Exit::Usage, message).hint(hint)
}

/// This user and host, for the logs of routers.
fn this_user() -> String {
    let user = rustix::process::getuid().as_raw();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let text = format!("user {user}@{host}");
    text.chars().filter(|c| !c.is_control()).take(32).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn what_contradicts_itself_or_is_out_of_bounds_is_a_usage_error() {
        for line in [
            "sinew migrate a/b/c",
            "sinew migrate a/b --to tcp",
            "sinew migrate a/b/c --to tcp --percent 0",
            "sinew migrate a/b/c --to tcp --percent 101",
            "sinew migrate a/b/c --to tcp --expires 0s",
            "sinew migrate a/b/c --to tcp --max-gap-percent 0",
            "sinew migrate a/b/c --to tcp --end",
            "sinew migrate a/b/c --end --dry-run",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        for line in ["sinew migrate a/b/c --end", "sinew migrate a/b/c --to tcp --percent 1"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn an_author_is_a_user_and_a_host_in_bounds() {
        let author = this_user();
        assert!(author.contains('@') && author.len() <= 128, "{author}");
    }
}
