//! `tidy`: facts about the tree that a reader would otherwise have to remember.
//!
//! Each finding says where, what, why it matters and what to do. Where a rule does not suit the
//! case in front of you, say so on that line or the line above: `tidy-allow: RULE, because ...`.

mod commands;
mod glossary;
mod injected;
mod links;
mod manifest;
mod source;
mod tree;
mod variables;
mod wording;

use anyhow::{Result, bail};
use clap::Args;

use crate::workspace::Workspace;
use tree::File;

/// Check the rules of the tree that no compiler checks.
#[derive(Args)]
#[command(after_help = "\
Rules:
  manifest  shared package fields, lints and versions are inherited; names match folders
  readme    each package has a README.md
  module    each Rust file opens with `//!`
  length    no source file of a crate is longer than 500 lines (tests.rs aside)
  ignore    no test is switched off
  sleep     tests wait for events, not for time
  reason    each allowed lint says why
  path      no path of one person's machine
  word      no marks of unfinished work
  promise   nothing is promised that this version does not do
  link      relative links in Markdown lead somewhere
  row       no marks of tables that readers cannot see
  variable  each variable of the environment that is read or named stands in docs/settings.md
  command   commands that documents give work as they stand there
  glossary  a name that was replaced is not declared again
  clock     libraries read the clock through `sinew_plane::clock`, or as tokio's own
  random    libraries draw random numbers through `sinew_plane::random`
  select    each `select!` is biased: its first arm is the first to be looked at

An exception is written on its line or the line above, with its reason:
  // tidy-allow: sleep, the slow reader is what this test is about")]
pub(crate) struct Options {}

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// From the root, with `/`.
    path: String,
    /// From 1; 0 speaks of the whole file.
    line: usize,
    rule: &'static str,
    /// What is wrong, why that matters, and what to do.
    message: String,
}

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let (files, findings) = look(workspace)?;
    for Finding { path, line, rule, message } in &findings {
        match line {
            0 => eprintln!("{path}: [{rule}] {message}"),
            _ => eprintln!("{path}:{line}: [{rule}] {message}"),
        }
    }
    if !findings.is_empty() {
        bail!("{} findings in {files} files", findings.len());
    }
    println!("tidy: {files} files are as they should be");
    Ok(())
}

/// How many files were looked at, and what was found.
fn look(workspace: &Workspace) -> Result<(usize, Vec<Finding>)> {
    let files = tree::read(&workspace.root)?;
    let mut findings = manifest::check(workspace)?;
    for file in &files {
        findings.extend(check(workspace, file));
    }
    let of_all = variables::check(&files).into_iter().chain(glossary::check(&files));
    findings.extend(of_all.filter(|finding| {
        let file = files.iter().find(|file| file.path == finding.path);
        !file.is_some_and(|file| is_excepted(file, finding))
    }));
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    Ok((files.len(), findings))
}

fn check(workspace: &Workspace, file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.has_extension("rs") {
        findings.extend(source::check(file));
        findings.extend(injected::check(file));
    }
    if file.has_extension("md") {
        findings.extend(links::check(&workspace.root, file));
    }
    findings.extend(commands::check(file));
    findings.extend(wording::check(&workspace.root, file));
    findings.retain(|finding| !is_excepted(file, finding));
    findings
}

/// True if the line, or the one above, names the rule in a `tidy-allow:` remark with a reason.
fn is_excepted(file: &File, finding: &Finding) -> bool {
    let near = finding.line.saturating_sub(2)..finding.line;
    file.text.lines().enumerate().any(|(index, line)| {
        near.contains(&index)
            && line.split_once("tidy-allow: ").is_some_and(|(_, remark)| {
                let (rule, reason) = remark.split_once(',').unwrap_or((remark, ""));
                rule == finding.rule && !reason.trim().is_empty()
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let (_, findings) = look(&Workspace::find().unwrap()).unwrap();
        assert!(findings.is_empty(), "run `cargo xtask tidy`: {findings:#?}");
    }

    #[test]
    fn an_exception_needs_the_rule_and_a_reason() {
        let finding =
            Finding { path: String::new(), line: 2, rule: "sleep", message: String::new() };
        let excepted = |remark: &str| {
            let file = File::new("a.rs", &format!("// {remark}\nsleep(1);\n"));
            is_excepted(&file, &finding)
        };
        assert!(excepted("tidy-allow: sleep, slowness is the subject"));
        assert!(!excepted("tidy-allow: sleep"));
        assert!(!excepted("tidy-allow: word, slowness is the subject"));
    }
}
