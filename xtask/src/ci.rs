//! `ci`: what `.ci/run` runs, in its order.

use std::collections::HashMap;

use anyhow::{Result, bail};
use clap::Args;

use crate::ahead::Ahead;
use crate::steps::{Report, Step};
use crate::workspace::Workspace;
use crate::{
    checks, dependencies, fuzz, guards, interop, layers, outside, pictures, publish, release, soak,
    test, tidy,
};

/// Cheap checks first, so that a slip is known within a minute; then what needs a build.
const STEPS: &[Step] = &[
    Step { name: "fmt", about: "the code is formatted", run: checks::fmt },
    Step { name: "layers", about: "crates depend on lower layers only", run: layers::run },
    Step { name: "tidy", about: "the rules of the tree hold", run: tidy::run },
    Step { name: "pictures", about: "the pictures in docs/ are current", run: pictures::check },
    Step { name: "dependencies", about: "what we depend on is allowed", run: dependencies::run },
    Step { name: "size", about: "small crates stay small", run: checks::size },
    Step { name: "clippy", about: "no warnings, in any target", run: checks::clippy },
    Step { name: "docs", about: "the documentation builds without warnings", run: checks::docs },
    Step {
        name: "alone",
        about: "each library compiles by itself, without default features; sinew works without Dynamo",
        run: checks::alone,
    },
    Step {
        name: "test",
        about: "unit and integration tests pass, with real etcd and NATS",
        run: |workspace| test::all(workspace, &["--locked"]),
    },
    Step { name: "outside", about: "what users write compiles and works", run: outside::all },
    Step {
        name: "doctests",
        about: "the examples in the documentation run",
        run: |workspace| test::doctests(workspace, &["--locked"]),
    },
    Step {
        name: "guards",
        about: "a call, an item and a pass cost no more than their limits",
        run: guards::all,
    },
    Step {
        name: "interop",
        about: "Sinew works among unmodified Dynamo peers",
        run: |workspace| interop::run(workspace, &["--locked"]),
    },
    Step { name: "publish", about: "every crate packs and compiles packed", run: publish::dry_run },
    Step {
        name: "soak",
        about: "streams outlive cut connections: every item once and in order, memory flat",
        run: soak::briefly,
    },
    Step { name: "fuzz", about: "decoders survive a short fuzzing", run: fuzz::briefly },
    Step { name: "demo", about: "the demo runs in release mode", run: checks::demo },
];

/// Builds of which nothing is shared with other steps: the step that needs one, the step with which
/// it begins, and how. They take what others leave.
const AHEAD: &[(&str, &str, Begin)] = &[
    ("interop", "clippy", interop::ahead),
    // Tests wait more than they compute.
    ("guards", "test", release::ahead),
    // The soak leaves most of the processors, and nothing else is left to be compiled.
    ("fuzz", "soak", fuzz::ahead),
];

/// Begins a build, unless there is nothing to build.
type Begin = fn(&Workspace) -> Result<Option<Ahead>>;

/// Run what CI runs, in its order, and stop at the first failure.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask ci                        # all of it
  cargo xtask ci --only fmt,clippy      # the named steps, in CI's order
  cargo xtask ci --list                 # their names, and what each one proves")]
pub(crate) struct Options {
    /// Run the other steps after a failure, too
    #[arg(long)]
    keep_going: bool,
    /// Run only these steps
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    only: Vec<String>,
    /// List the steps and run none
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.list {
        for step in STEPS {
            println!("{:12}  {}", step.name, step.about);
        }
        return Ok(());
    }
    let steps = chosen(&options.only)?;
    let mut report = Report::default();
    let mut skipped = steps.len();
    let mut ahead = HashMap::new();
    for step in &steps {
        skipped -= 1;
        let passed = report.run(step.name, step.about, || {
            for (name, begin) in begins_with(step.name, &steps) {
                ahead.extend(begin(workspace)?.map(|build| (name, build)));
            }
            ahead.remove(step.name).map_or(Ok(()), Ahead::finish)?;
            (step.run)(workspace)
        });
        if !passed && !options.keep_going {
            break;
        }
    }
    report.finish(skipped)
}

/// The builds that begin with a step, of those whose own step is to run, too.
fn begins_with(name: &str, steps: &[&Step]) -> impl Iterator<Item = (&'static str, Begin)> {
    let builds = AHEAD.iter().filter(move |(_, with, _)| *with == name);
    let is_needed = |need: &str| steps.iter().any(|step| step.name == need);
    builds.filter(move |(need, ..)| is_needed(need)).map(|&(need, _, begin)| (need, begin))
}

fn chosen(only: &[String]) -> Result<Vec<&'static Step>> {
    for name in only {
        if !STEPS.iter().any(|step| step.name == name) {
            let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
            bail!("there is no step `{name}`; the steps are {}", names.join(", "));
        }
    }
    let is_chosen = |step: &&Step| only.is_empty() || only.iter().any(|name| name == step.name);
    Ok(STEPS.iter().filter(is_chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_steps_keep_the_order_of_ci() {
        let steps = chosen(&["clippy".to_owned(), "fmt".to_owned()]).unwrap();
        assert_eq!(steps.iter().map(|step| step.name).collect::<Vec<_>>(), ["fmt", "clippy"]);
        assert_eq!(chosen(&[]).unwrap().len(), STEPS.len());
    }

    #[test]
    fn a_build_begins_before_its_step_if_both_are_chosen() {
        for (need, with, _) in AHEAD {
            let place = |name| STEPS.iter().position(|step| step.name == name).unwrap();
            assert!(place(*with) < place(*need), "{need} begins with {with}");
        }
        let begun = |only: &[&str]| {
            let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
            let steps = chosen(&only).unwrap();
            begins_with("clippy", &steps).map(|(need, _)| need).collect::<Vec<_>>()
        };
        assert_eq!(begun(&[]), ["interop"]);
        assert_eq!(begun(&["clippy", "interop"]), ["interop"]);
        assert_eq!(begun(&["clippy", "test"]), [""; 0]);
    }

    #[test]
    fn an_unknown_step_is_answered_with_the_known_ones() {
        let error = chosen(&["lint".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("no step `lint`") && error.contains("clippy"), "{error}");
    }
}
