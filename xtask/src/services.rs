//! `services`: real etcd and NATS in the background, for running single tests by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::process;
use crate::servers::{self, ALL, Life, Service};
use crate::workspace::Workspace;

/// Both servers end within milliseconds of SIGTERM unless they hang.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Start, stop or show real etcd and NATS servers for running single tests by hand.
#[derive(Args)]
#[command(after_help = "\
Examples:
  eval \"$(cargo xtask services up)\"     # start, and tell this shell where they are
  cargo test -p sinew-discovery etcd
  cargo xtask services down

`cargo xtask test` needs none of this: it starts its own servers and ends them.
Ports and process ids are kept in target/services.json, data and logs in target/services/.")]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start what is not running, on free ports, and print the variables to export
    Up,
    /// Stop them
    Down,
    /// Say which run, and where
    Status,
}

/// A server as the state file remembers it.
struct Remembered {
    service: Service,
    process: u32,
    port: u16,
}

impl Remembered {
    /// True if that process still lives and is still our server, not a later one of the same id.
    fn is_running(&self) -> bool {
        self.service.is_ready(self.port) && process_is(self.process, self.service)
    }
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let file = workspace.target().join("services.json");
    match options.action {
        Action::Up => up(&file, &workspace.target().join("services")),
        Action::Down => down(&file),
        Action::Status => status(&file),
    }
}

fn up(file: &Path, folder: &Path) -> Result<()> {
    let mut known = remembered(file)?;
    known.retain(Remembered::is_running);
    for service in ALL {
        if known.iter().any(|server| server.service == service) {
            continue;
        }
        let server = servers::start(service, folder, Life::OnItsOwn)?;
        eprintln!("{} is ready on port {}", service.name(), server.port);
        known.push(Remembered { service, process: server.child.id(), port: server.port });
        // Remembered before it is let go, so that no server is ever out of reach of `down`.
        remember(file, &known)?;
        server.child.let_go();
    }
    for server in &known {
        println!("export {}={}", server.service.variable(), server.service.address(server.port));
    }
    Ok(())
}

fn down(file: &Path) -> Result<()> {
    for server in remembered(file)? {
        let name = server.service.name();
        if !process_is(server.process, server.service) {
            println!("{name} was not running");
            continue;
        }
        signal("TERM", server.process)?;
        let gone = || Ok(!process_is(server.process, server.service));
        if process::wait_until(STOP_LIMIT, gone)? {
            println!("{name} stopped");
        } else {
            signal("KILL", server.process)?;
            println!("{name} did not stop within {} s and was killed", STOP_LIMIT.as_secs());
        }
    }
    if file.exists() {
        fs::remove_file(file)?;
    }
    Ok(())
}

fn status(file: &Path) -> Result<()> {
    let known = remembered(file)?;
    for service in ALL {
        match known.iter().find(|server| server.service == service && server.is_running()) {
            Some(server) => println!(
                "{}: {} (process {})",
                service.name(),
                service.address(server.port),
                server.process
            ),
            None => println!("{}: not running", service.name()),
        }
    }
    Ok(())
}

fn remember(file: &Path, servers: &[Remembered]) -> Result<()> {
    let servers: Value = servers
        .iter()
        .map(|server| {
            let facts = json!({ "process": server.process, "port": server.port });
            (server.service.name().to_owned(), facts)
        })
        .collect();
    fs::write(file, format!("{servers:#}\n")).with_context(|| format!("writing {}", file.display()))
}

fn remembered(file: &Path) -> Result<Vec<Remembered>> {
    let Ok(text) = fs::read_to_string(file) else { return Ok(Vec::new()) };
    let state: Value = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; delete it", file.display()))?;
    let read = |service: Service| {
        let facts = &state[service.name()];
        Some(Remembered {
            service,
            process: u32::try_from(facts["process"].as_u64()?).ok()?,
            port: u16::try_from(facts["port"].as_u64()?).ok()?,
        })
    };
    Ok(ALL.into_iter().filter_map(read).collect())
}

/// True if the process runs the program of `service`.
fn process_is(process: u32, service: Service) -> bool {
    let folder = PathBuf::from(format!("/proc/{process}"));
    if !Path::new("/proc/self").exists() {
        return signal("0", process).is_ok();
    }
    // A process that has ended and that nobody has waited for has an empty command line.
    fs::read(folder.join("cmdline")).is_ok_and(|line| {
        let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
        Path::new(String::from_utf8_lossy(program).as_ref()).ends_with(service.name())
    })
}

/// Sends a signal with the shell's own `kill`, which needs neither unsafe code nor a package.
fn signal(name: &str, process: u32) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", r#"kill -s "$0" "$1" 2>/dev/null"#, name, &process.to_string()])
        .status()?;
    if !status.success() {
        bail!("could not send {name} to process {process}");
    }
    Ok(())
}
