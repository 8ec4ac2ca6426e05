//! The command line: a role, the endpoint, and what the role needs.

use anyhow::{Context, bail};

/// Printed when the command line cannot be understood.
const USAGE: &str = "dynamo-peer worker|bidi-worker|client --endpoint NAMESPACE/COMPONENT/ENDPOINT \
                     [--codec json|msgpack] [--quiet] [--until-stdin-closes]";

/// What this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves the endpoint: one request in, many items out.
    Worker,
    /// Serves the endpoint: many items in, many items out.
    BidiWorker,
    /// Calls the endpoint, as told on standard input.
    Client,
}

/// The three names of an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointName {
    pub namespace: String,
    pub component: String,
    pub endpoint: String,
}

/// A parsed command line.
#[derive(Debug)]
pub struct Arguments {
    pub role: Role,
    pub name: EndpointName,
    /// The request codec that a worker advertises; `None` leaves Dynamo's default.
    pub codec: Option<String>,
    /// A worker prints no line per request.
    pub quiet: bool,
    /// A worker shuts down when its standard input ends, so that it cannot outlive the test that started it.
    pub until_stdin_closes: bool,
}

impl Arguments {
    /// Reads the words that follow the program's name.
    pub fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let role = match words.next().as_deref() {
            Some("worker") => Role::Worker,
            Some("bidi-worker") => Role::BidiWorker,
            Some("client") => Role::Client,
            other => bail!("no such role: {other:?}\nusage: {USAGE}"),
        };
        let (mut name, mut codec, mut quiet, mut until_stdin_closes) = (None, None, false, false);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--endpoint" => name = Some(EndpointName::parse(&words.next().context(USAGE)?)?),
                "--codec" => codec = Some(words.next().context(USAGE)?),
                "--quiet" => quiet = true,
                "--until-stdin-closes" => until_stdin_closes = true,
                other => bail!("no such option: {other}\nusage: {USAGE}"),
            }
        }
        Ok(Self { role, name: name.context(USAGE)?, codec, quiet, until_stdin_closes })
    }
}

impl EndpointName {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let [namespace, component, endpoint] = parts[..] else {
            bail!("not NAMESPACE/COMPONENT/ENDPOINT: {text}")
        };
        Ok(Self {
            namespace: namespace.into(),
            component: component.into(),
            endpoint: endpoint.into(),
        })
    }
}
