//! What the environment must hold before Dynamo's runtime reads it.
//!
//! Dynamo takes settings from the environment only, and a running program cannot change its own without `unsafe`.
//! So a process that lacks one starts itself again, in place: the process id stays what the test knows.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::arguments::Arguments;

/// Set unless the caller has set them: Dynamo otherwise listens on the first interface that it finds.
const DEFAULTS: [(&str, &str); 2] =
    [("DYN_TCP_RPC_HOST", "127.0.0.1"), ("DYN_TCP_RESPONSE_STREAM_HOST", "127.0.0.1")];

/// The codec that a worker advertises.
const CODEC: &str = "DYN_REQUEST_PLANE_CODEC";

/// Returns when the environment is complete; otherwise this process becomes one whose environment is.
pub fn complete(arguments: &Arguments) -> anyhow::Result<()> {
    let mut missing: Vec<(&str, OsString)> = DEFAULTS
        .into_iter()
        .filter(|(name, _)| std::env::var_os(name).is_none())
        .map(|(name, value)| (name, value.into()))
        .collect();
    if let Some(codec) = &arguments.codec
        && std::env::var(CODEC).ok().as_ref() != Some(codec)
    {
        missing.push((CODEC, codec.into()));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    Err(Command::new(program).args(std::env::args_os().skip(1)).envs(missing).exec().into())
}

/// Starts Dynamo's log on standard error if `DYN_LOG` is set; it prints lines per request at every level.
pub fn start_log() {
    if std::env::var_os("DYN_LOG").is_some() {
        dynamo_runtime::logging::init();
    }
}
