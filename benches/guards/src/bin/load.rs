//! One load, so many times, for callgrind to count: `sinew-guards-load LOAD OPERATIONS`.

use anyhow::{Context, Result, bail};
use sinew_guards::Load;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [load, operations] = &arguments[..] else {
        bail!("usage: sinew-guards-load LOAD OPERATIONS")
    };
    let operations = operations.parse().context("how many operations")?;
    let load: Load = load.parse()?;
    load.with(async |running| running.repeat(operations).await)
}
