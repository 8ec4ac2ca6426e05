//! etcd processes of our own, one or a cluster, that can be killed, stopped and emptied.

use std::{
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, interval},
};

use crate::support::{LOOK_EVERY, PATIENCE};

/// One member, running or not.
pub(crate) struct Server {
    name: String,
    client: u16,
    peer: u16,
    cluster: String,
    folder: TempDir,
    child: Option<Child>,
}

impl Server {
    /// One etcd by itself, ready.
    pub(crate) async fn start() -> Self {
        Self::cluster(1).await.pop().unwrap()
    }

    /// Members of one cluster, all ready.
    pub(crate) async fn cluster(size: usize) -> Vec<Self> {
        // Held until all are known, so that none comes twice.
        let held: Vec<_> = (0..2 * size).map(|_| free_port()).collect();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let ports: Vec<_> = held.iter().map(port).collect();
        drop(held);
        let url = |at: usize| format!("m{at}=http://127.0.0.1:{}", ports[size + at]);
        let cluster = (0..size).map(url).collect::<Vec<_>>().join(",");
        let member = |at: usize| Self {
            name: format!("m{at}"),
            client: ports[at],
            peer: ports[size + at],
            cluster: cluster.clone(),
            folder: tempfile::tempdir().unwrap(),
            child: None,
        };
        let mut members: Vec<_> = (0..size).map(member).collect();
        members.iter_mut().for_each(Self::spawn);
        for member in &members {
            member.ready().await;
        }
        members
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    pub(crate) fn port(&self) -> u16 {
        self.client
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the process again, on the data that is there.
    pub(crate) fn spawn(&mut self) {
        let client = self.url();
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        // The kernel ends it when this process ends, however that is.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "etcd", "--logger=zap", "--log-outputs=stderr"]);
        command.args(["--unsafe-no-fsync", "--initial-cluster-token=test"]);
        command.arg(format!("--name={}", self.name));
        command.arg(format!("--data-dir={}", self.data().display()));
        command.arg(format!("--listen-client-urls={client}"));
        command.arg(format!("--advertise-client-urls={client}"));
        command.arg(format!("--listen-peer-urls={peer}"));
        command.arg(format!("--initial-advertise-peer-urls={peer}"));
        command.arg(format!("--initial-cluster={}", self.cluster));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // In a group of its own. When a process ends whose parent ended before it, the kernel may send
        // SIGCONT to all of its group, and so wake one that was stopped.
        command.process_group(0);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until it does its work.
    pub(crate) async fn ready(&self) {
        let limit = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_EVERY);
        while !self.is_healthy().await.unwrap_or(false) {
            let log = self.folder.path().join("log");
            assert!(Instant::now() < limit, "{}", std::fs::read_to_string(log).unwrap());
            looks.tick().await;
        }
    }

    async fn is_healthy(&self) -> std::io::Result<bool> {
        let answer = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.client)).await?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            std::io::Result::Ok(text.contains(r#""health":"true""#))
        };
        tokio::time::timeout(Duration::from_secs(1), answer).await.unwrap_or(Ok(false))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Makes the next start one without data.
    pub(crate) fn wipe(&self) {
        std::fs::remove_dir_all(self.data()).unwrap();
    }

    /// SIGSTOP: connections stay open and nobody answers. Waits until it has stopped.
    pub(crate) fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        assert!(self.has_stopped(WaitIdOptions::empty()));
    }

    fn has_stopped(&self, how: WaitIdOptions) -> bool {
        let how = how | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid()), how).unwrap().is_some_and(|status| status.stopped())
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        assert!(self.has_stopped(WaitIdOptions::NOHANG), "another process has sent SIGCONT");
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    /// What an operator types, and what it prints.
    pub(crate) fn etcdctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.url()));
        let output = command.args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {text}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// One entry as etcd has it: revision of its making, lease, value.
    pub(crate) fn entry(&self, key: &str) -> Option<(i64, i64, String)> {
        let json: serde_json::Value =
            serde_json::from_str(&self.etcdctl(&["get", key, "-w", "json"])).unwrap();
        let kv = json["kvs"].get(0)?;
        let output = self.etcdctl(&["get", key, "--print-value-only"]);
        let number = |name: &str| kv[name].as_i64().unwrap_or_default();
        Some((number("create_revision"), number("lease"), output.trim_end().to_owned()))
    }

    /// How many watches of all clients stand.
    pub(crate) fn watches(&self) -> usize {
        let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.client)).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let text = std::io::read_to_string(stream).unwrap();
        let line = text.lines().find(|line| line.starts_with("etcd_debugging_mvcc_watcher_total "));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// True for the member that leads.
    pub(crate) fn is_leader(&self) -> bool {
        let json = self.etcdctl(&["endpoint", "status", "-w", "json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json[0]["Status"]["leader"] == json[0]["Status"]["header"]["member_id"]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
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
