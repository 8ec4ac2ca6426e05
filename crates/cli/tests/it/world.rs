//! A private place with the processes in it.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Failure guard of every wait; nothing here takes nearly as long.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A folder of its own for discovery, sockets and files.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The command in this place, with nothing from the environment but PATH.
    pub(crate) fn sinew<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.through(env!("CARGO_BIN_EXE_sinew"), args)
    }

    /// Another program in this place, such as one that starts the command.
    pub(crate) fn through<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .current_dir(self.dir.path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The same, to be stopped by a signal and continued. It is in a group of its own: when a process
    /// ends whose parent ended before it, the kernel may send SIGCONT to all of its group.
    pub(crate) fn stoppable<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.sinew(args);
        command.process_group(0);
        command
    }

    /// Runs a command line to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        Running::start(self.sinew(args)).finish()
    }

    /// The same by a command that starts it in this place, as a shell does.
    pub(crate) fn serve_by(&self, mut command: Command) -> Server {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Server::start(command)
    }

    /// Starts `sinew serve` and waits until it serves.
    pub(crate) fn serve<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Server {
        let mut command = self.sinew(["serve"]);
        command.args(args);
        Server::start(command)
    }
}

/// A process whose output is gathered.
pub(crate) struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

fn gather(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    })
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(gather);
        let stderr = child.stderr.take().map(gather);
        Self { child, stdout, stderr }
    }

    /// Starts it and leaves standard output to the test.
    pub(crate) fn start_reading(mut command: Command) -> (Self, BufReader<ChildStdout>) {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take().map(gather);
        (Self { child, stdout: None, stderr }, stdout)
    }

    /// Starts it and leaves standard error to the test.
    pub(crate) fn start_listening(mut command: Command) -> (Self, BufReader<ChildStderr>) {
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let stdout = child.stdout.take().map(gather);
        (Self { child, stdout, stderr: None }, stderr)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(&self.child, signal);
    }

    pub(crate) fn finish(mut self) -> Output {
        let status = wait(&mut self.child);
        let take = |from: &mut Option<JoinHandle<Vec<u8>>>| {
            from.take().map(|thread| thread.join().unwrap()).unwrap_or_default()
        };
        Output { status, stdout: take(&mut self.stdout), stderr: take(&mut self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let mut ended = None;
    until("the process to end", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    ended.unwrap()
}

/// Waits for something that can only be asked for.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(comes_true(is_so), "waited in vain for {what}");
}

fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > LIMIT {
            return false;
        }
        // tidy-allow: sleep, this is the pause between two questions
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Waits until a file has some content, and returns it.
pub(crate) fn content_of(path: &Path) -> String {
    let mut content = String::new();
    until(&format!("{} to be written", path.display()), || {
        content = fs::read_to_string(path).unwrap_or_default();
        content.ends_with('\n')
    });
    content
}

/// A `sinew serve` that serves.
pub(crate) struct Server {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// What it said until it served, the line that says so at the end.
    pub(crate) said: Vec<String>,
}

impl Server {
    /// Starts a command line of `sinew serve` and waits until it serves.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut server = Self { child, lines, said: Vec::new() };
        while !server.said.last().is_some_and(|line| line.starts_with("serving ")) {
            let line = server.next_line();
            server.said.push(line);
        }
        server
    }

    /// Waits for the next line of its standard error.
    pub(crate) fn next_line(&self) -> String {
        let line = self.lines.recv_timeout(LIMIT);
        line.unwrap_or_else(|_| panic!("the server said no more than {:?}", self.said))
    }

    /// What it has said since, once it has ended.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(&self.child, signal);
    }

    /// Waits for its end and returns its exit code.
    pub(crate) fn code(&mut self) -> Option<i32> {
        wait(&mut self.child).code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Two interruptions: the second one cuts, so that no program stays behind.
        for signal in [Signal::INT, Signal::TERM] {
            if matches!(self.child.try_wait(), Ok(None)) {
                kill(&self.child, signal);
            }
        }
        comes_true(|| !matches!(self.child.try_wait(), Ok(None)));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Standard output as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails with what the process said, unless it ended with `code`.
#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
}
