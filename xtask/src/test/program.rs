//! A test program as cargo would start it: written down in place of run, so that xtask can run it.
//!
//! Cargo runs one test program after another, and most of ours wait for something. Where each one
//! runs, and with which variables, only cargo knows. It starts each through its *runner*, which is
//! here this very xtask: the hidden chore `record` writes down what it is asked to run.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::process;
use crate::workspace::{list, string};

/// Through which cargo tells a program whose test it is.
const PACKAGE: &str = "CARGO_PKG_NAME";

/// Write down a test program for `cargo xtask test`, which cargo asks for in place of running it.
#[derive(Args)]
pub(crate) struct Options {
    /// Where to
    folder: PathBuf,
    /// The program
    program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// One test program, and all that cargo gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// Whose test it is, e.g. `sinew-mux`.
    pub(crate) package: String,
    /// The target of the package, e.g. `it`, or `sinew_mux` for the tests in the library.
    pub(crate) target: String,
    file: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    variables: BTreeMap<String, String>,
}

/// Tells `cargo test` to have each program written to `folder`, which is there and empty.
pub(crate) fn record_in(folder: &Path, cargo: &mut Command) -> Result<()> {
    let ourselves = process::ourselves().context("the system does not tell where xtask is")?;
    cargo.arg("--config").arg(runner(&process::host_triple()?, &ourselves, folder));
    Ok(())
}

/// The setting of cargo that makes us its runner; its strings are those of TOML and of JSON.
fn runner(host: &str, ourselves: &Path, folder: &Path) -> String {
    let words = json!([ourselves.to_string_lossy(), "record", folder.to_string_lossy()]);
    format!("target.{host}.runner={words}")
}

/// What the chore `record` does.
pub(crate) fn record(options: &Options) -> Result<()> {
    let name = options.program.file_name().context("a program has a name")?;
    let directory = env::current_dir()?;
    // Others than text are not cargo's, and come to the program all the same, from us.
    let variables: BTreeMap<String, String> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let program = Program {
        package: variables.get(PACKAGE).cloned().with_context(|| format!("no {PACKAGE}"))?,
        target: target(&options.program),
        file: directory.join(&options.program),
        arguments: options.arguments.clone(),
        directory,
        variables,
    };
    let path = options.folder.join(name);
    // Two programs of one name would be one that does not run.
    let mut file = File::create_new(&path).with_context(|| path.display().to_string())?;
    Ok(file.write_all(program.to_json().to_string().as_bytes())?)
}

/// What was recorded in `folder`, in the order of packages and targets.
pub(crate) fn recorded_in(folder: &Path) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let text = fs::read_to_string(entry?.path())?;
        programs.push(Program::from_json(&serde_json::from_str(&text)?)?);
    }
    if programs.is_empty() {
        // Such as for another machine than this one.
        bail!("cargo has not asked for a test program: does some configuration set a target?");
    }
    programs
        .sort_by(|a, b| (&a.package, &a.target, &a.file).cmp(&(&b.package, &b.target, &b.file)));
    Ok(programs)
}

/// The name of a target in that of its program, which has a hash behind it.
fn target(program: &Path) -> String {
    let name = program.file_stem().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-').map_or(name.as_ref(), |(target, _)| target).to_owned()
}

impl Program {
    /// What it is called in messages.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.package, self.target)
    }

    /// Its own word for files, which no other program has.
    pub(crate) fn word(&self) -> String {
        let file = self.file.file_name().unwrap_or_default().to_string_lossy();
        format!("{}.{}.{file}", self.package, self.target)
    }

    /// The command that runs it, as cargo would, and that ends with us.
    pub(crate) fn command(&self) -> Command {
        let mut command = process::with_us(&self.file);
        command.args(&self.arguments).current_dir(&self.directory).envs(&self.variables);
        command
    }

    fn to_json(&self) -> Value {
        json!({
            "package": self.package,
            "target": self.target,
            "file": self.file,
            "arguments": self.arguments,
            "directory": self.directory,
            "variables": self.variables,
        })
    }

    fn from_json(value: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned).context("not a text");
        let variables = value["variables"].as_object().context("no variables")?;
        Ok(Self {
            package: string(value, "package")?,
            target: string(value, "target")?,
            file: string(value, "file")?.into(),
            arguments: list(value, "arguments").map(text).collect::<Result<_>>()?,
            directory: string(value, "directory")?.into(),
            variables: variables
                .iter()
                .map(|(name, value)| Ok((name.clone(), text(value)?)))
                .collect::<Result<_>>()?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A shell that runs `script`, as the test `target` of the package `some`.
    pub(in crate::test) fn shell(target: &str, script: &str) -> Program {
        Program {
            package: "some".to_owned(),
            target: target.to_owned(),
            file: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned(), target.to_owned()],
            directory: env::temp_dir(),
            variables: BTreeMap::from([("TARGET_OF_TEST".to_owned(), target.to_owned())]),
        }
    }

    #[test]
    fn a_target_is_named_without_its_hash() {
        assert_eq!(target(Path::new("target/debug/deps/it-0123456789abcdef")), "it");
        assert_eq!(target(Path::new("sinew-bench-0123456789abcdef")), "sinew-bench");
        assert_eq!(target(Path::new("plain")), "plain");
    }

    #[test]
    fn a_runner_is_a_setting_that_cargo_reads() {
        let setting = runner("x86_64-unknown-linux-gnu", Path::new("/a b/\"x\""), Path::new("/c"));
        let table: toml::Table = setting.parse().unwrap();
        let words = table["target"]["x86_64-unknown-linux-gnu"]["runner"].as_array().unwrap();
        let words: Vec<_> = words.iter().filter_map(toml::Value::as_str).collect();
        assert_eq!(words, ["/a b/\"x\"", "record", "/c"]);
    }

    #[test]
    fn what_was_recorded_is_read_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        assert!(recorded_in(folder.path()).unwrap_err().to_string().contains("not asked"));
        let (one, other) = (shell("b", "exit 0"), shell("a", "exit 1"));
        for program in [&one, &other] {
            let file = folder.path().join(&program.target);
            fs::write(file, program.to_json().to_string()).unwrap();
        }
        assert_eq!(recorded_in(folder.path()).unwrap(), [other, one]);
    }
}
