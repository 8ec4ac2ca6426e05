//! Running other programs: shown before they start, named in full when they fail.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::protoc;

/// Between two looks at something that has no event to wait for (a child's exit, a server's port).
/// Short against every limit used here, long enough to cost no measurable CPU.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The cargo that runs this xtask, started in `directory`, with this program as its `protoc`.
///
/// `cargo run` describes *our* package to us in environment variables. They are taken out again,
/// because build scripts that watch them would run (and recompile their crates) on each change
/// between `cargo xtask x` and a plain `cargo x`.
pub(crate) fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    protoc::offer_to(&mut command);
    command.current_dir(directory);
    command
}

/// The same, for what is asked about the features of one package: these are not made the same as
/// those of the whole workspace, as the configuration of a user may want it.
pub(crate) fn cargo_apart(directory: &Path) -> Command {
    let mut command = cargo(directory);
    command.env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION");
    command
}

/// Where this program is.
pub(crate) fn ourselves() -> Option<PathBuf> {
    // Asked once and early: after a build that has replaced this program, the system no longer
    // tells its path.
    static OURSELVES: OnceLock<Option<PathBuf>> = OnceLock::new();
    OURSELVES.get_or_init(|| env::current_exe().ok()).clone()
}

/// `program`, which ends with us, however we end.
pub(crate) fn with_us(program: &Path) -> Command {
    // The kernel ends it when the thread that has started it ends, so neither a panic nor SIGKILL
    // leaves one behind. Where there is no setpriv (outside Linux), Ctrl-C still reaches it, because
    // it shares our process group.
    match find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Shows the command, runs it to its end, and fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    println!("$ {shown}");
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Like [`run`], and ends the command when it takes longer than `limit`.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let shown = show(command);
    println!("$ {shown}");
    let child = command.spawn().with_context(|| format!("could not start `{shown}`"))?;
    let mut child = KillOnDrop::new(child);
    let mut status = None;
    let ended = wait_until(limit, || {
        status = child.try_wait()?;
        Ok(status.is_some())
    })?;
    match status {
        Some(status) if ended && status.success() => Ok(()),
        Some(status) => bail!("`{shown}` ended with {status}"),
        None => bail!("`{shown}` did not end within {} s and was stopped", limit.as_secs()),
    }
}

/// Runs the command silently and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed invalid UTF-8"))
}

/// Asks `ready` again and again until it says yes (true) or `limit` has passed (false).
pub(crate) fn wait_until(limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<bool> {
    let deadline = Instant::now() + limit;
    while !ready()? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(true)
}

/// Where `program` is: on `PATH`, or in the folders of servers that a user's `PATH` often lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// The triple of the machine we run on, e.g. `x86_64-unknown-linux-gnu`.
pub(crate) fn host_triple() -> Result<String> {
    let about = output(Command::new("rustc").arg("-vV"))?;
    about
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("`rustc -vV` names no host")
}

/// A child process that does not outlive its owner, unless it is let go.
pub(crate) struct KillOnDrop {
    child: Child,
    armed: bool,
}

impl KillOnDrop {
    pub(crate) fn new(child: Child) -> Self {
        Self { child, armed: true }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the child ended, or `None` while it runs.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Lets the child live on.
    pub(crate) fn let_go(mut self) {
        self.armed = false;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if self.armed {
            // Both fail only when the child is already gone, which is what we want.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The command as one types it.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let arguments = command.get_args().map(|argument| {
        let text = argument.to_string_lossy();
        if text.contains(' ') { format!("'{text}'") } else { text.into_owned() }
    });
    std::iter::once(name.into_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}
