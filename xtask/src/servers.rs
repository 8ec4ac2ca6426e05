//! Starting the real servers that tests talk to: etcd and NATS, each on free ports.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{self, KillOnDrop};
use crate::tools::{self, ETCD, NATS};

/// etcd needs about 1 s to elect itself on an idle machine; a loaded CI machine gets much more.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A server answers on loopback at once or is not ready.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// A free port may be taken between our look and the server's bind; three in a row will not be.
const ATTEMPTS: usize = 3;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Etcd,
    Nats,
}

pub(crate) const ALL: [Service; 2] = [Service::Etcd, Service::Nats];

/// How long a server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Until we end, however we end.
    WithUs,
    /// Until somebody stops it.
    OnItsOwn,
}

/// A server that has answered. Dropping it ends it.
pub(crate) struct Running {
    pub(crate) service: Service,
    pub(crate) port: u16,
    pub(crate) child: KillOnDrop,
}

impl Service {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Nats => "nats-server",
        }
    }

    /// The variable through which tests learn the address.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Etcd => "SINEW_TEST_ETCD",
            Self::Nats => "SINEW_TEST_NATS",
        }
    }

    /// What that variable holds for a server on `port`.
    pub(crate) fn address(self, port: u16) -> String {
        match self {
            Self::Etcd => format!("http://127.0.0.1:{port}"),
            Self::Nats => format!("nats://127.0.0.1:{port}"),
        }
    }

    fn find(self) -> Result<PathBuf> {
        let tool = match self {
            Self::Etcd => ETCD,
            Self::Nats => NATS,
        };
        tools::ensure(&[tool])?.pop().context("one tool was asked for")
    }

    fn arguments(self, port: u16, data: &Path) -> Result<Vec<String>> {
        let data = data.display();
        Ok(match self {
            Self::Etcd => {
                let client = format!("http://127.0.0.1:{port}");
                let peer = format!("http://127.0.0.1:{}", free_port()?);
                vec![
                    "--name=test".into(),
                    format!("--data-dir={data}"),
                    format!("--listen-client-urls={client}"),
                    format!("--advertise-client-urls={client}"),
                    format!("--listen-peer-urls={peer}"),
                    format!("--initial-advertise-peer-urls={peer}"),
                    format!("--initial-cluster=test={peer}"),
                    // Tests keep nothing, so they need not wait for the disk.
                    "--unsafe-no-fsync".into(),
                    "--logger=zap".into(),
                ]
            }
            Self::Nats => vec![
                "--addr=127.0.0.1".into(),
                format!("--port={port}"),
                "--jetstream".into(),
                format!("--store_dir={data}"),
            ],
        })
    }

    /// True once the server does its work, not merely listens.
    pub(crate) fn is_ready(self, port: u16) -> bool {
        let (question, sign) = match self {
            Self::Etcd => ("GET /health HTTP/1.0\r\n\r\n", r#""health":"true""#),
            Self::Nats => ("", "INFO {"),
        };
        answer(port, question, sign).unwrap_or(false)
    }
}

/// Starts one server with its data and log below `folder`, and waits until it answers.
pub(crate) fn start(service: Service, folder: &Path, life: Life) -> Result<Running> {
    let program = service.find()?;
    let folder = folder.join(service.name());
    let mut attempted = attempt(service, &program, &folder, life);
    for _ in 1..ATTEMPTS {
        attempted = attempted.or_else(|_| attempt(service, &program, &folder, life));
    }
    attempted
}

fn attempt(service: Service, program: &Path, folder: &Path, life: Life) -> Result<Running> {
    let data = folder.join("data");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    fs::create_dir_all(&data)?;
    let log = folder.join("log");
    let port = free_port()?;
    let mut command = command(program, life);
    command.args(service.arguments(port, &data)?).stdin(Stdio::null());
    command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
    let child = command.spawn().with_context(|| format!("could not start {}", service.name()))?;
    let mut child = KillOnDrop::new(child);
    let ready = process::wait_until(START_LIMIT, || {
        if let Some(status) = child.try_wait()? {
            bail!("{} ended with {status}; its log is {}", service.name(), log.display());
        }
        Ok(service.is_ready(port))
    })?;
    if !ready {
        let limit = START_LIMIT.as_secs();
        bail!("{} was not ready within {limit} s; its log is {}", service.name(), log.display());
    }
    Ok(Running { service, port, child })
}

/// The command for a server of the given life.
fn command(program: &Path, life: Life) -> Command {
    match life {
        Life::WithUs => process::with_us(program),
        Life::OnItsOwn => {
            let mut command = Command::new(program);
            // Its own group, so that a Ctrl-C meant for something else does not reach it.
            #[cfg(unix)]
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            command
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn answer(port: u16, question: &str, sign: &str) -> std::io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(question.as_bytes())?;
    // Both answers are far shorter; NATS keeps the connection open, so one does not read to the
    // end but until the sign has come.
    let mut heard = Vec::new();
    let mut part = [0; 4096];
    while heard.len() < 64 * 1024 {
        let count = stream.read(&mut part)?;
        if count == 0 {
            break;
        }
        heard.extend_from_slice(&part[..count]);
        if String::from_utf8_lossy(&heard).contains(sign) {
            return Ok(true);
        }
    }
    Ok(false)
}
