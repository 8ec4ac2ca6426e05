//! `sinew-guards`: counts, compares with the table of limits, and fails above one.
#![allow(clippy::print_stdout, reason = "a program for people: its output is what it is for")]

use std::{alloc::System, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use sinew_guards::{Callgrind, HEAD, Load, Verdict, count, judge, source};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const USAGE: &str = "\
usage: sinew-guards [--print] [--no-instructions | --valgrind PROGRAM] [--profiles FOLDER]
  --print            after the verdicts, the table as source, with what was measured now
  --no-instructions  do not run callgrind
  --valgrind PROGRAM the valgrind to run (default: the one on the path)
  --profiles FOLDER  where callgrind's profiles go (default: target/guards)";

const TABLE: &str = "benches/guards/src/limits.rs (`cargo xtask guards --print`)";

const ADVICE: &str = "the hot path does more than it did. Find out what: compare the profiles in \
                      target/guards (callgrind_annotate) with those of the commit before. If it \
                      is worth it, pin the new number and say why in the commit.";

struct Options {
    print: bool,
    instructions: bool,
    callgrind: Callgrind,
}

fn main() -> ExitCode {
    match Options::read(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            print: false,
            instructions: true,
            callgrind: Callgrind {
                valgrind: PathBuf::from("valgrind"),
                profiles: PathBuf::from("target/guards"),
            },
        };
        while let Some(argument) = arguments.next() {
            let place = match argument.as_str() {
                "--print" => {
                    options.print = true;
                    continue;
                }
                "--no-instructions" => {
                    options.instructions = false;
                    continue;
                }
                "--valgrind" => &mut options.callgrind.valgrind,
                "--profiles" => &mut options.callgrind.profiles,
                _ => bail!("{USAGE}"),
            };
            match arguments.next() {
                Some(value) => *place = value.into(),
                None => bail!("{USAGE}"),
            }
        }
        Ok(options)
    }
}

/// Whether every limit is kept.
fn run(options: &Options) -> Result<bool> {
    let mut measured = Vec::new();
    for load in Load::ALL {
        measured.extend(count(load)?);
        if options.instructions {
            measured.push(options.callgrind.count(load)?);
        }
    }
    let verdicts = judge(&measured);
    println!("{HEAD}");
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if options.print {
        print!("\n{}", source(&measured));
    }
    let number = |which: fn(&Verdict) -> bool| verdicts.iter().filter(|it| which(it)).count();
    let (broken, better) = (number(Verdict::is_broken), number(Verdict::is_better));
    if better > 0 {
        println!("\n{better} are well below what is pinned: tighten {TABLE}");
    }
    if broken > 0 {
        println!("\n{broken} of {} limits are broken: {ADVICE}", verdicts.len());
    }
    Ok(broken == 0)
}
