//! The options of `sinew serve`.

use std::{ffi::OsString, net::SocketAddr, num::NonZeroUsize, time::Duration};

use clap::{Args, ValueEnum};
use sinew::{ByteSize, Continuation, EndpointName, FrameChecks, InstanceId, Network};

use crate::duration::{self, TimeOption as _};

/// Make any program a streaming endpoint.
///
/// For each request the command runs once: the request's body is its standard input, and each
/// line it writes is an item, sent as soon as it is written. Lines over 64 KiB are sent in pieces
/// of that size, so the items put together are the command's output, byte for byte. An exit code
/// other than 0 fails the request with the end of standard error. A cancel sends SIGTERM to the
/// command's process group, and SIGKILL after --kill-grace.
///
/// SIGINT, SIGTERM and `sinew drain` withdraw the endpoint and finish what is under way. The last
/// line says how many requests finished, were handed over and were cut. The exit code is 0, or 9
/// if any was cut. A second signal cuts at once.
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
    /// It reads {"id":1,"body":JSON}, where a caller's text is a JSON string, and
    /// {"id":1,"cancel":true}; it writes {"id":1,"item":JSON} for each item, and
    /// {"id":1,"end":true} or {"id":1,"error":"TEXT"} at the end. See the crate's README.
    #[arg(long)]
    pub(crate) persistent: bool,
    /// Requests at once; more are refused, and callers try another instance.
    #[arg(long, value_name = "N", default_value = "64", value_parser = at_least_one)]
    pub(crate) concurrency: NonZeroUsize,
    /// Share of the requests relative to other instances.
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) weight: u32,
    /// Running the command twice for one request does no harm: callers may then send a request
    /// again whose fate is not known.
    #[arg(long)]
    pub(crate) idempotent: bool,
    /// What callers may do when this worker dies while it answers.
    ///
    /// none: their stream ends as truncated. replayable: the command gives the same items for the
    /// same request each time, so callers run the request again at another instance and go on behind
    /// the items that they have; if the items differ, the stream fails.
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub(crate) continuation: Continues,
    /// Id of this instance, in hexadecimal. Default: random.
    #[arg(long, value_name = "HEX", value_parser = instance)]
    pub(crate) instance: Option<InstanceId>,
    /// Where to listen; :PORT is that port of 127.0.0.1. Default: a free port of 127.0.0.1.
    /// Another address than loopback needs --insecure.
    #[arg(long, value_name = "IP:PORT", value_parser = socket)]
    pub(crate) listen: Option<SocketAddr>,
    /// What others are told instead: HOST or HOST:PORT.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) advertise: Option<String>,
    /// Networks in which callers over NATS or Dynamo's request plane are dialled back.
    ///
    /// NETWORK is an address or a range, as 10.1.0.0/16. They are added to what is dialled anyway:
    /// the address that a request came from, others on the same link, this host's own for callers
    /// on this host, and over NATS the networks of this host's interfaces. Default:
    /// $SINEW_ALLOW_CALL_HOME, else none.
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub(crate) allow_call_home: Vec<Network>,
    /// Listen beyond loopback in plain text, without encryption or authentication.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Serve counters and gauges for Prometheus at http://IP:PORT/metrics.
    #[arg(long, value_name = "IP:PORT", value_parser = socket)]
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
    #[arg(long, time(), value_parser = duration::parse)]
    pub(crate) park_limit: Option<Duration>,
    /// How long an answer is kept for a caller that has lost its connection; 0s: not at all. At least
    /// 15s. Default: $SINEW_RESUME_GRACE, else 20s.
    #[arg(long, time(), value_parser = duration::parse)]
    pub(crate) resume_grace: Option<Duration>,
    /// Keeps each answer for this time after its end, so that others can read it too: see sinew call
    /// --resume. Default: not at all.
    #[arg(long, time(), value_parser = duration::parse)]
    pub(crate) retain: Option<Duration>,
    /// Most items that --retain keeps of an answer.
    #[arg(long, value_name = "N", default_value = "1024", value_parser = at_least_one, requires = "retain")]
    pub(crate) retain_items: NonZeroUsize,
    /// Most bytes that --retain keeps of an answer.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", requires = "retain")]
    pub(crate) retain_bytes: ByteSize,
    /// How long requests may take to finish after the first signal. Default: 30s.
    #[arg(long, time(), value_parser = duration::parse)]
    pub(crate) grace: Option<Duration>,
    /// How long a command may take to end after SIGTERM before SIGKILL.
    #[arg(long, time(), default_value = "2s", value_parser = duration::parse)]
    pub(crate) kill_grace: Duration,
    /// Give the command this variable of the environment although it looks like a secret.
    ///
    /// The command gets the environment of sinew serve without what looks like a secret by name
    /// (such as *_PASSWORD, *_TOKEN, *_SECRET, *_KEY) or by value (a URL with a password). May be
    /// given more than once.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) pass_env: Vec<OsString>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Handlers of commands attach no checkpoints, so theirs are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Continues {
    None,
    Replayable,
}

impl From<Continues> for Continuation {
    fn from(continues: Continues) -> Self {
        match continues {
            Continues::None => Self::None,
            Continues::Replayable => Self::Replayable,
        }
    }
}

fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "write how many requests may run at once, 1 or more".to_owned())
}

/// Reads where to listen. A name is not looked up: it may stand for several addresses.
fn socket(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let form = || {
        "write IP:PORT, such as 127.0.0.1:9000 or [::1]:9000; :9000 and localhost:9000 mean \
         127.0.0.1:9000, and 0.0.0.0:9000 is every IPv4 address of this machine"
            .to_owned()
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
    let port = port.parse().map_err(|_| form())?;
    match host {
        "" | "localhost" => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
        _ => Err(form()),
    }
}

/// Reads an instance's id.
pub(crate) fn instance(text: &str) -> Result<InstanceId, String> {
    InstanceId::from_hex(text)
        .filter(|id| id.0 != 0)
        .ok_or_else(|| "an id is 1 to 16 hexadecimal digits and not 0; sinew ls shows ids".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_loopback_and_other_forms_are_shown() {
        for text in ["127.0.0.1:9000", ":9000", "localhost:9000"] {
            assert_eq!(socket(text).unwrap().to_string(), "127.0.0.1:9000", "{text}");
        }
        assert_eq!(socket("[::1]:9000").unwrap().to_string(), "[::1]:9000");
        for bad in ["9000", "*:9000", "worker-1:9000", "::1:x", ":99999", "127.0.0.1", ""] {
            assert!(socket(bad).unwrap_err().contains("127.0.0.1:9000"), "{bad}");
        }
    }
}
