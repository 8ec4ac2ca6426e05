//! The options of `sinew serve`.

use std::{ffi::OsString, net::SocketAddr, num::NonZeroUsize, time::Duration};

use clap::Args;
use sinew::{ByteSize, EndpointName, FrameChecks, InstanceId};

use crate::duration;

/// Make any program a streaming endpoint.
///
/// For each request the command runs once: the request's body is its standard input, and each
/// line it writes is an item, sent as soon as it is written. Lines over 64 KiB are sent in pieces
/// of that size, so the items put together are the command's output, byte for byte. An exit code
/// other than 0 fails the request with the end of standard error. A cancel sends SIGTERM to the
/// command's process group, and SIGKILL after --kill-grace.
///
/// SIGINT and SIGTERM withdraw the endpoint, finish what is under way and exit with 0; a second
/// one cuts.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sinew serve text/words/split -- tr ' ' '\\n'
  sinew serve logs/web/follow --concurrency 8 -- tail -f /var/log/nginx/access.log
  sinew serve demo/count/up --persistent -- ./counter")]
pub(crate) struct ServeArgs {
    /// What callers call it: namespace/component/endpoint.
    pub(crate) name: EndpointName,
    /// Keep one process for all requests, which speaks one JSON object per line both ways.
    ///
    /// It reads {"id":1,"body":JSON} or {"id":1,"data":"TEXT"}, and {"id":1,"cancel":true}; it
    /// writes {"id":1,"item":JSON} for each item, and {"id":1,"end":true} or
    /// {"id":1,"error":"TEXT"} at the end. See the crate's README.
    #[arg(long)]
    pub(crate) persistent: bool,
    /// Requests at once; more are refused, and callers try another instance.
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) concurrency: NonZeroUsize,
    /// Share of the requests relative to other instances.
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) weight: u32,
    /// Running the command twice for one request does no harm: callers may then send a request
    /// again whose fate is not known.
    #[arg(long)]
    pub(crate) idempotent: bool,
    /// Id of this instance, in hexadecimal. Default: random.
    #[arg(long, value_name = "HEX", value_parser = instance)]
    pub(crate) instance: Option<InstanceId>,
    /// Where to listen. Default: a free port of 127.0.0.1. Another address than loopback needs
    /// --insecure.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// What others are told instead: HOST or HOST:PORT.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) advertise: Option<String>,
    /// Listen beyond loopback in plain text, without encryption or authentication.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Serve counters and gauges for Prometheus at http://IP:PORT/metrics.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Checks of frames: off, write or verify. Default: $SINEW_FRAME_CHECKS, else verify beyond
    /// loopback and off within the host.
    #[arg(long, value_name = "WORD")]
    pub(crate) frame_checks: Option<FrameChecks>,
    /// Memory that requests and responses may hold: 512MiB, 2G. When it is spent, new requests
    /// are refused and callers try another instance. Default: $SINEW_MEMORY_BUDGET, else a
    /// quarter of what the control group or the machine gives.
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_budget: Option<ByteSize>,
    /// How long a line may wait for a caller that does not read before its request fails. Default:
    /// for ever, while there is memory.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) park_limit: Option<Duration>,
    /// How long requests may take to finish after the first signal. Default: 30s.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) grace: Option<Duration>,
    /// How long a command may take to end after SIGTERM before SIGKILL.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration::parse)]
    pub(crate) kill_grace: Duration,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Reads an instance's id.
pub(crate) fn instance(text: &str) -> Result<InstanceId, String> {
    InstanceId::from_hex(text)
        .filter(|id| id.0 != 0)
        .ok_or_else(|| "an id is 1 to 16 hexadecimal digits and not 0; sinew ls shows ids".into())
}
