//! Peers that another program has, whose dependencies do not live with those of this one.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sinew_plane::BoxFuture;

use crate::{Contestant, Control, Host, Lanes, Pace, Sample, Workload};

/// The peers of a program whose `main` is [`run`](crate::run) with peers of its own, and which of
/// these workloads they run. All processes of their measurements are that program.
pub(crate) fn elsewhere(
    program: &Path,
    workloads: &[Workload],
) -> Result<Vec<Box<dyn Contestant>>> {
    let name = program.display();
    let output = Command::new(program).arg("list").arg(serde_json::to_string(workloads)?).output();
    let output = output.with_context(|| format!("starting {name}"))?;
    ensure!(output.status.success(), "{name} list: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let peers = text.lines().map(|line| {
        let listed = serde_json::from_str(line).with_context(|| format!("{name}: {line:?}"))?;
        Ok(Box::new(Elsewhere { program: program.to_owned(), listed }) as Box<dyn Contestant>)
    });
    peers.collect()
}

/// The other end: a line of JSON for each peer.
#[expect(clippy::print_stdout, reason = "read by the program that takes the peers in")]
pub(crate) fn list(peers: &[Box<dyn Contestant>], workloads: &[Workload]) -> Result<()> {
    for peer in peers {
        let runs = workloads.iter().filter(|workload| peer.runs(workload));
        let listed = Listed {
            name: peer.name().to_owned(),
            about: peer.about().to_owned(),
            workloads: runs.map(|workload| workload.name.to_owned()).collect(),
        };
        println!("{}", serde_json::to_string(&listed)?);
    }
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Listed {
    name: String,
    about: String,
    workloads: Vec<String>,
}

struct Elsewhere {
    program: PathBuf,
    listed: Listed,
}

impl Contestant for Elsewhere {
    fn name(&self) -> &str {
        &self.listed.name
    }

    fn about(&self) -> &str {
        &self.listed.about
    }

    fn runs(&self, workload: &Workload) -> bool {
        self.listed.workloads.iter().any(|name| name == workload.name)
    }

    fn program(&self) -> Option<&Path> {
        Some(&self.program)
    }

    fn host(&self) -> BoxFuture<'_, Result<Box<dyn Host>>> {
        Box::pin(async move { bail!("{} is served by {}", self.name(), self.program.display()) })
    }

    fn measure<'a>(
        &'a self,
        _: &'a Workload,
        _: Pace,
        _: &'a [String],
        _: &'a mut dyn Control,
    ) -> BoxFuture<'a, Result<Sample>> {
        Box::pin(async move { bail!("{} is measured by {}", self.name(), self.program.display()) })
    }

    fn consume<'a>(
        &'a self,
        _: &'a [String],
        _: usize,
        _: usize,
    ) -> BoxFuture<'a, Result<Box<dyn Lanes>>> {
        Box::pin(async move { bail!("{} is consumed by {}", self.name(), self.program.display()) })
    }
}
