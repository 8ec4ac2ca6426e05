//! A NATS server for peers that need one.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

/// Longest wait until it takes connections.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where its program is, unless it is on the path.
const VARIABLE: &str = "SINEW_BENCH_NATS_SERVER";

/// A `nats-server` of its own on a free port of this host, with its defaults.
///
/// It ends when this is dropped, and where the system can do that (`setpriv`) also when this
/// process is killed.
#[derive(Debug)]
pub struct Broker {
    address: String,
    child: Child,
}

impl Broker {
    /// Starts it and waits until it takes connections.
    ///
    /// # Errors
    /// There is no `nats-server` on the path, or it does not come up within 10 s.
    pub async fn start() -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let program = std::env::var_os(VARIABLE).unwrap_or_else(|| "nats-server".into());
        let mut command = match find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        let child = command
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", Path::new(&program).display()))?;
        let mut broker = Self { address: format!("nats://127.0.0.1:{port}"), child };
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            let ended = broker.child.try_wait()?;
            ensure!(ended.is_none(), "nats-server ended: is there one on the path?");
            ensure!(started.elapsed() < PATIENCE, "nats-server takes no connections");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(broker)
    }

    /// Its address as a URL.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its CPU time so far, 0 where the system does not tell.
    pub fn cpu_ns(&self) -> u64 {
        self.process().map_or(0, Self::cpu_ns_of)
    }

    /// Its process id, until it has ended.
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// The CPU time of all threads of a process so far, 0 where the system does not tell.
    pub fn cpu_ns_of(process: u32) -> u64 {
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return 0 };
        let of_thread = |folder: PathBuf| -> Option<u64> {
            fs::read_to_string(folder.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
        };
        threads.flatten().filter_map(|thread| of_thread(thread.path())).sum()
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}
