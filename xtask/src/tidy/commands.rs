//! Commands that documents and examples give a reader to type.

use super::Finding;
use super::tree::File;

/// Begins of commands, what each has to name as well, and why.
const RULES: [(&str, &[&str], &str); 2] = [
    (
        concat!("cargo run --", "example"),
        &[],
        "cargo looks for examples in the default members, which are the command alone: say \
         `cargo run -p PACKAGE --example NAME`.",
    ),
    (
        concat!("cargo ", "install --"),
        &["--locked"],
        "without `--locked` cargo resolves the dependencies anew, and a reader builds what no one \
         has tested.",
    ),
];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !file.has_extension("md") && !file.has_extension("rs") {
        return findings;
    }
    for (line, text) in file.lines() {
        for (command, words, why) in RULES {
            let Some((_, rest)) = text.split_once(command) else { continue };
            // The rest of the command: up to a comment or the end of inline code.
            let rest = rest.split(['#', '`']).next().unwrap_or(rest);
            let whole = format!("{command}{rest}");
            let is_whole = !words.is_empty() && words.iter().all(|word| whole.contains(word));
            if !is_whole {
                let message = format!("`{}`: {why}", whole.trim());
                findings.push(Finding { path: file.path.clone(), line, rule: "command", message });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(line: &str) -> usize {
        check(&File::new("a.md", line)).len()
    }

    #[test]
    fn a_command_that_does_not_work_is_found() {
        let [(example, ..), (install, ..)] = RULES;
        assert_eq!(findings(&format!("    {example} echo")), 1);
        assert_eq!(findings("cargo run -p sinew --example echo"), 0);
        assert_eq!(findings(&format!("{install}path crates/cli   # the command")), 1);
        assert_eq!(findings(&format!("{install}path crates/cli  # --locked or not")), 1);
        assert_eq!(findings(&format!("run `{install}path crates/cli`, not --locked")), 1);
        assert_eq!(findings(&format!("{install}locked --path crates/cli")), 0);
    }
}
