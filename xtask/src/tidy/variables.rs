//! Rule for variables of the environment: the list of settings, which is in the code and on its
//! page, is the whole list.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::File;

/// The page that is written from the list.
const PAGE: &str = "docs/settings.md";

/// Names that begin so are settings.
const FAMILIES: [&str; 4] = ["SINEW_", "DYN_", "ETCD_", "NATS_"];

/// Variables of tests and benches, which no setting may be called.
const OF_TESTS: [&str; 3] = ["SINEW_TEST_", "SINEW_BENCH_", "SINEW_BLESS"];

/// Variables that every program of a terminal knows, and that are no settings.
const OF_ALL: [&str; 4] = ["\"PATH\"", "\"NO_COLOR\"", "\"TERM\"", "\"COLUMNS\""];

/// Where the environment is read; the console asks it for colours alone, and the supervision of
/// programs hands it on to them.
const READERS: [&str; 4] = [
    "crates/runtime-facade/src/env/",
    "crates/runtime-facade/src/runtime_dir.rs",
    "crates/telemetry/src/console.rs",
    "crates/cli/src/serve/supervision.rs",
];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let page = files.iter().find(|file| file.path == PAGE);
    let listed: BTreeSet<&str> = page.iter().flat_map(|file| names(&file.text)).collect();
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| is_looked_at(file)) {
        for (line, text) in code(file) {
            let mut find = |message| {
                let path = file.path.clone();
                findings.push(Finding { path, line, rule: "variable", message });
            };
            for name in named(file, text).filter(|name| !listed.contains(name)) {
                find(format!(
                    "`{name}` is not in {PAGE}. Add a row to crates/runtime-facade/src/env/table, \
                     a case to its tests, and write the page anew."
                ));
            }
            if file.has_extension("rs") && reads(text) && !is_reader(file) {
                find(
                    "the environment is read in one place, the facade, where each variable has a \
                     row, a check and a test. Take the setting as an argument."
                        .to_owned(),
                );
            }
        }
    }
    findings
}

/// What programs are made of, and what their users read.
fn is_looked_at(file: &File) -> bool {
    let is_source = file.path.starts_with("crates/") && file.path.contains("/src/");
    let is_document = file.has_extension("md")
        && (file.path.starts_with("docs/")
            || file.path == "README.md"
            || file.path.starts_with("crates/"));
    is_document || (is_source && file.has_extension("rs"))
}

fn is_reader(file: &File) -> bool {
    READERS.iter().any(|reader| file.path.starts_with(reader))
}

/// The lines, without the tests at the end of a source file.
fn code(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let is_test = file.path.contains("/tests");
    let is_code = move |(_, line): &(usize, &str)| !line.starts_with("mod tests");
    file.lines().take_while(is_code).filter(move |_| !is_test)
}

/// The settings that a line names: anywhere in a document, in quotes in code.
fn named<'t>(file: &File, line: &'t str) -> impl Iterator<Item = &'t str> {
    let is_document = file.has_extension("md");
    let is_named = move |name: &&str| {
        line.contains(&format!("\"{name}\"")) || line.contains(&format!("${name}"))
    };
    names(line).filter(move |name| is_document || is_named(name))
}

/// The words of a text that are names of settings.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_').filter(
        |word| {
            // One that ends in a line stands for a family.
            FAMILIES.iter().any(|family| word.starts_with(family))
                && !word.ends_with('_')
                && !OF_TESTS.iter().any(|family| word.starts_with(family))
        },
    )
}

fn reads(line: &str) -> bool {
    let reads = ["env::var(", "env::var_os(", "env::vars(", "env::vars_os("];
    reads.iter().any(|it| line.contains(it)) && !OF_ALL.iter().any(|name| line.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&[File::new(path, text), File::new(PAGE, "| `SINEW_LISTED` |")]).len()
    }

    #[test]
    fn what_is_read_or_named_stands_in_the_list() {
        let code = "crates/a/src/b.rs";
        assert_eq!(found(code, "name: \"SINEW_LISTED\","), 0);
        assert_eq!(found(code, "name: \"SINEW_NEW\","), 1);
        assert_eq!(found(code, "/// Default: $DYN_NEW."), 1);
        assert_eq!(found(code, "const SINEW_CONSTANT: u8 = 1;"), 0);
        assert_eq!(found(code, "mod tests {\n\"SINEW_NEW\""), 0);
        assert_eq!(found("docs/x.md", "set `SINEW_NEW`"), 1);
        assert_eq!(found("docs/x.md", "`NATS_AUTH_*`, `SINEW_*` and `SINEW_TEST_ETCD`"), 0);
    }

    #[test]
    fn the_environment_is_read_in_one_place() {
        assert_eq!(found("crates/a/src/b.rs", "std::env::var(name)"), 1);
        assert_eq!(found("crates/a/src/b.rs", "env::var_os(\"PATH\")"), 0);
        assert_eq!(found("crates/a/tests/it/b.rs", "std::env::var(name)"), 0);
        assert_eq!(found("crates/runtime-facade/src/env/mod.rs", "std::env::vars_os()"), 0);
    }
}
