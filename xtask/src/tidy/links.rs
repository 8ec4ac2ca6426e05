//! Relative links in Markdown lead to something that exists.

use std::path::Path;

use super::Finding;
use super::tree::File;

pub(super) fn check(root: &Path, file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_code = false;
    for (number, line) in file.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        for target in targets(&without_code(line)) {
            if !leads_somewhere(root, file, &target) {
                findings.push(Finding {
                    path: file.path.clone(),
                    line: number,
                    rule: "link",
                    message: format!(
                        "`{target}` leads nowhere. Write the path as seen from this file, or \
                         remove the link."
                    ),
                });
            }
        }
    }
    findings
}

/// The addresses of `[text](address)` and `[label]: address` in one line.
fn targets(line: &str) -> Vec<String> {
    let inline = line.match_indices("](").filter_map(|(at, open)| {
        let rest = &line[at + open.len()..];
        rest.find(')').map(|end| &rest[..end])
    });
    let definition = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "))
        .filter(|(label, _)| !label.starts_with('^'))
        .map(|(_, address)| address);
    inline
        .chain(definition)
        // An address may be followed by a title and may stand in angle brackets.
        .filter_map(|address| address.split_whitespace().next())
        .map(|address| address.trim_matches(['<', '>']).to_owned())
        .collect()
}

/// The line with its `code` taken out, as code holds no links.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

fn leads_somewhere(root: &Path, file: &File, target: &str) -> bool {
    let path = target.split('#').next().unwrap_or_default();
    if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
        return true;
    }
    match path.strip_prefix('/') {
        Some(from_root) => root.join(from_root).exists(),
        None => root.join(&file.path).parent().is_some_and(|folder| folder.join(path).exists()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Targets that lead nowhere, seen from xtask/README.md of this repository.
    fn dead(text: &str) -> usize {
        let root = crate::workspace::Workspace::find().unwrap().root;
        check(&root, &File::new("xtask/README.md", text)).len()
    }

    #[test]
    fn a_link_to_a_missing_file_is_found() {
        assert_eq!(dead("see [this](missing.md) and [that](src/main.rs)"), 1);
        assert_eq!(dead("[label]: missing.md"), 1);
        assert_eq!(dead("[page](../README-of-nothing.md#part \"title\")"), 1);
    }

    #[test]
    fn other_addresses_and_code_are_left_alone() {
        assert_eq!(
            dead("[a](https://example.org/missing) [b](#part) [c](mailto:a@example.org)"),
            0
        );
        assert_eq!(dead("`[a](missing.md)`\n```\n[a](missing.md)\n```"), 0);
        assert_eq!(dead("[a](src/main.rs#part) [b](../crates) [c](/Cargo.toml)"), 0);
    }
}
