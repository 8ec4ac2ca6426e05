//! A NATS server of our own.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use async_nats::Subscriber;
use sinew_transport_nats::{NatsConfig, NatsConnection};

/// A guard against hanging; what is waited for takes milliseconds.
pub(crate) const GUARD: Duration = Duration::from_secs(30);

/// A server process; dropping it kills it.
pub(crate) struct Server {
    pub(crate) port: u16,
    settings: String,
    child: Option<Child>,
    folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// A server with further lines in its configuration file.
    pub(crate) fn with(settings: &str) -> Self {
        let mut server = Self::stopped(settings);
        server.run();
        server
    }

    /// A server that does not run yet, on a port that is free now.
    pub(crate) fn stopped(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { port: free_port(), settings: settings.to_owned(), child: None, folder }
    }

    /// Starts it, on the same port as ever, and waits until it answers.
    pub(crate) fn run(&mut self) {
        assert!(self.child.is_none(), "runs already");
        let file = self.folder.path().join("server.conf");
        let text = format!("listen: \"127.0.0.1:{}\"\n{}\n", self.port, self.settings);
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let child = Command::new("nats-server")
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server is in PATH");
        self.child = Some(child);
        let start = Instant::now();
        while !self.answers() {
            let log = || std::fs::read_to_string(self.folder.path().join("log"));
            assert!(start.elapsed() < GUARD, "no answer; its log: {:?}", log());
            // tidy-allow: sleep, another process cannot wake us; this only paces the looking
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn answers(&self) -> bool {
        let Ok(socket) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else { return false };
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).is_ok_and(|_| line.starts_with("INFO "))
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn restart_with(&mut self, settings: &str) {
        self.kill();
        self.settings = settings.to_owned();
        self.run();
    }

    /// Sends the signal that announces the end.
    pub(crate) fn lame_duck(&self) {
        let process = self.child.as_ref().expect("runs").id().to_string();
        assert!(Command::new("kill").args(["-USR2", &process]).status().unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn config(&self) -> NatsConfig {
        NatsConfig { servers: vec![self.url()], ..NatsConfig::default() }
    }

    pub(crate) async fn connect(&self) -> NatsConnection {
        connect(self.config()).await
    }

    /// A connection for those who send into the void and need not wait for long.
    pub(crate) async fn connect_impatiently(&self) -> NatsConnection {
        let request_timeout = Duration::from_millis(300);
        connect(NatsConfig { request_timeout, ..self.config() }).await
    }

    /// A peer that is not ours.
    pub(crate) async fn stranger(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.unwrap()
    }

    /// A peer that is not ours, and what comes to it on `subject`.
    pub(crate) async fn listener(&self, subject: &str) -> (async_nats::Client, Subscriber) {
        let stranger = self.stranger().await;
        let messages = stranger.subscribe(subject.to_owned()).await.unwrap();
        // The server handles what comes from one connection in order: it has the subscription.
        stranger.request("nobody", "".into()).await.unwrap_err();
        (stranger, messages)
    }

    /// A peer that keeps to no rules: sends bytes, and returns when the server has read them.
    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        socket
            .write_all(b"CONNECT {\"headers\":true,\"verbose\":false,\"pedantic\":false}\r\n")
            .unwrap();
        socket.write_all(bytes).unwrap();
        socket.write_all(b"PING\r\n").unwrap();
        let mut lines = BufReader::new(socket).lines();
        assert!(lines.any(|line| line.unwrap() == "PONG"), "the server read it");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

pub(crate) async fn connect(config: NatsConfig) -> NatsConnection {
    NatsConnection::connect(config.checked().unwrap()).await.unwrap()
}

/// A port that is free now. The system gives those ports to nobody who asks for any, so nobody gets
/// this one while the server is down.
pub(crate) fn free_port() -> u16 {
    let mut random = sinew_plane::random::generator();
    loop {
        let port = random.u16(10_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Asks again and again until the answer is yes.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !is_so().await {
            // tidy-allow: sleep, it paces the asking and decides nothing
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(GUARD, asked).await.is_ok(), "waited in vain until {what}");
}
