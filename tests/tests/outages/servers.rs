//! etcd and NATS processes of a test's own, which can be killed, hung and started again.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::wait::until;

/// A server program that runs, or does not at the moment. Dropping it kills it.
struct Server {
    arguments: Vec<String>,
    folder: TempDir,
    child: Option<Child>,
}

impl Server {
    fn new(program: &str, arguments: impl IntoIterator<Item = String>, folder: TempDir) -> Self {
        // The kernel ends it with the thread of the test, however that one ends.
        let guard = ["--pdeathsig", "KILL", program].map(str::to_owned);
        Self { arguments: guard.into_iter().chain(arguments).collect(), folder, child: None }
    }

    fn start(&mut self) {
        assert!(self.child.is_none(), "runs already");
        let log = File::options().create(true).append(true).open(self.folder.path().join("log"));
        let mut command = Command::new("setpriv");
        command.args(&self.arguments).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(log.unwrap());
        // In a group of its own. When a process ends whose parent ended before it, the kernel may send
        // SIGCONT to all of its group, and so wake one that was stopped.
        command.process_group(0);
        self.child = Some(command.spawn().unwrap());
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// Ports that are free now, all different.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    // Held until all are known, so that none comes twice.
    let held = [(); N].map(|()| free_port());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A place at a port that is free now. The system gives those ports to nobody who asks for any, so
/// nobody gets this one while the server is down.
fn free_port() -> TcpListener {
    let mut random = sinew_plane::random::generator();
    loop {
        let port = random.u16(10_000..32_000);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener;
        }
    }
}

/// One member of an etcd cluster.
pub(crate) struct Etcd {
    server: Server,
    port: u16,
}

/// One entry as etcd has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) lease: i64,
    pub(crate) value: String,
}

impl Etcd {
    /// A cluster, all members ready.
    pub(crate) async fn cluster<const N: usize>() -> [Self; N] {
        let mut members = Self::stopped(free_ports());
        members.iter_mut().for_each(|member| member.server.start());
        for member in &members {
            member.ready().await;
        }
        members
    }

    /// A cluster on these ports that has not run yet.
    pub(crate) fn stopped<const N: usize>(ports: [u16; N]) -> [Self; N] {
        let peers: [u16; N] = free_ports();
        let peer = |port: u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<_> = peers.iter().map(|port| format!("m{port}={}", peer(*port))).collect();
        let mut all = peers.into_iter();
        ports.map(|port| {
            let (own, folder) = (all.next().unwrap(), tempfile::tempdir().unwrap());
            let client = format!("http://127.0.0.1:{port}");
            let arguments = [
                format!("--name=m{own}"),
                format!("--data-dir={}", folder.path().join("data").display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={}", peer(own)),
                format!("--initial-advertise-peer-urls={}", peer(own)),
                format!("--initial-cluster={}", cluster.join(",")),
                "--logger=zap".to_owned(),
                "--log-outputs=stderr".to_owned(),
                // The kernel survives what is killed here, and so do its pages.
                "--unsafe-no-fsync".to_owned(),
            ];
            Self { server: Server::new("etcd", arguments, folder), port }
        })
    }

    /// `HOST:PORT` for clients.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it, on the data that is there, and waits until it does its work.
    pub(crate) async fn run(&mut self) {
        self.server.start();
        self.ready().await;
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    /// SIGSTOP: connections stay open, and nobody answers.
    pub(crate) fn hang(&self) {
        self.server.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.server.signal(Signal::CONT);
    }

    async fn ready(&self) {
        until("etcd to be healthy", async || self.is_healthy().await.unwrap_or(false)).await;
    }

    async fn is_healthy(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(self.address()).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.contains(r#""health":"true""#))
    }

    /// What an operator types, and what it prints.
    pub(crate) async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.address()));
        let output = command.args(arguments).output().await.unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn ctl_json(&self, arguments: &[&str]) -> Value {
        let text = self.ctl(&[arguments, &["--write-out=json"]].concat()).await;
        serde_json::from_str(&text).unwrap()
    }

    /// What stands under a key.
    pub(crate) async fn entry(&self, key: &str) -> Option<Entry> {
        let found = self.ctl_json(&["get", key]).await;
        let found = found["kvs"].get(0)?;
        let value = found["value"].as_str().unwrap().to_owned();
        Some(Entry { lease: found["lease"].as_i64().unwrap_or_default(), value })
    }

    /// Seconds that a lease has left; negative when there is none.
    pub(crate) async fn seconds_left(&self, lease: i64) -> i64 {
        let lease = format!("{lease:x}");
        self.ctl_json(&["lease", "timetolive", &lease]).await["ttl"].as_i64().unwrap_or(-1)
    }

    /// True for the member that leads.
    pub(crate) async fn is_leader(&self) -> bool {
        let status = self.ctl_json(&["endpoint", "status"]).await;
        let status = &status[0]["Status"];
        status["leader"] == status["header"]["member_id"]
    }
}

/// A NATS server.
pub(crate) struct Nats {
    server: Server,
    port: u16,
}

impl Nats {
    /// One that answers.
    pub(crate) async fn start() -> Self {
        let [port] = free_ports();
        let arguments = ["--addr=127.0.0.1".to_owned(), format!("--port={port}")];
        let server = Server::new("nats-server", arguments, tempfile::tempdir().unwrap());
        let mut nats = Self { server, port };
        nats.run().await;
        nats
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it, on the same port as ever, and waits until it answers.
    pub(crate) async fn run(&mut self) {
        self.server.start();
        let greets = async || self.greeting().await.is_ok_and(|line| line.starts_with("INFO "));
        until("NATS to answer", greets).await;
    }

    async fn greeting(&self) -> std::io::Result<String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        Ok(line)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }
}
