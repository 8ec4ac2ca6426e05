//! Rules for what a simulation sets: the clock, random numbers, and the order in which a task looks
//! at what it waits for. One place that reads them past `sinew_plane` makes a run of it unrepeatable.

use super::Finding;
use super::source::{is_library_source, is_test};
use super::tree::File;

/// The program, whose own timing no simulation runs.
const PROGRAM: &str = "crates/cli/";

pub(super) fn check(file: &File) -> Vec<Finding> {
    if !is_library_source(file) || is_test(file) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut find = |line, rule, message: &str| {
        findings.push(Finding { path: file.path.clone(), line, rule, message: message.to_owned() });
    };
    let code = code(&file.text);
    let is_std = imports_instant(&code, "std::");
    for (number, line) in &code {
        if reads_std_clock(line, is_std) && !file.path.starts_with(PROGRAM) {
            find(
                *number,
                "clock",
                "the clock of the system, which no simulation can set and no test can pause. Use \
                 `sinew_plane::clock`, or tokio's `Instant` beside tokio's timers.",
            );
        }
        if draws_globally(line) {
            find(
                *number,
                "random",
                "a random number that no simulation can repeat. Use `sinew_plane::random`, or a \
                 generator that is an argument.",
            );
        }
    }
    for number in unbiased(&code) {
        find(
            number,
            "select",
            "`select!` looks at its arms in a random order. Begin it with `biased;` and the arm \
             that ends the wait. Where an arm could keep the others waiting, allow it and say so.",
        );
    }
    findings
}

/// Numbered lines without comments and without the modules of tests.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut code = Vec::new();
    let mut is_test = false;
    let mut before = "";
    for (index, line) in text.lines().enumerate() {
        let is_marked = before.starts_with("#[cfg(") && has_word(before, "test");
        is_test = is_test || (is_marked && line.starts_with("mod ") && line.ends_with('{'));
        if !is_test && !line.trim_start().starts_with("//") {
            code.push((index + 1, line));
        }
        is_test = is_test && line != "}";
        before = line;
    }
    code
}

/// Whether a `use` of the root, which may span lines, names `Instant`.
fn imports_instant(code: &[(usize, &str)], root: &str) -> bool {
    let mut statement = String::new();
    for (_, line) in code {
        let line = line.trim();
        if !statement.is_empty() || line.strip_prefix("use ").is_some_and(|it| it.starts_with(root))
        {
            statement += line;
        }
        if line.ends_with(';') {
            if has_word(&statement, "Instant") {
                return true;
            }
            statement.clear();
        }
    }
    false
}

fn reads_std_clock(line: &str, is_std: bool) -> bool {
    let tokio = line.contains("tokio::time::Instant::now");
    line.contains("SystemTime::now")
        || line.contains("std::time::Instant::now")
        || (is_std && !tokio && (line.contains("Instant::now") || line.contains(".elapsed()")))
}

/// A function of the crate, which draws from its own generator, or a generator seeded by it.
fn draws_globally(line: &str) -> bool {
    let is_function = |rest: &str| rest.starts_with(|first: char| first.is_ascii_lowercase());
    line.split("fastrand::").skip(1).any(is_function) || line.contains("Rng::new()")
}

/// Numbers of the lines with a `select!` whose first word is not `biased`.
fn unbiased(code: &[(usize, &str)]) -> Vec<usize> {
    let mut numbers = Vec::new();
    for (index, (number, line)) in code.iter().enumerate() {
        let Some((before, rest)) = line.split_once("select!") else { continue };
        if before.ends_with('"') || before.ends_with('`') {
            continue;
        }
        let following = code[index + 1..].iter().map(|(_, line)| line.trim());
        let mut words = std::iter::once(rest.trim()).chain(following);
        let first = words.find_map(|text| {
            let text = text.trim_start_matches([' ', '{', '(']);
            (!text.is_empty()).then_some(text)
        });
        if !first.is_some_and(|first| first.starts_with("biased;")) {
            numbers.push(*number);
        }
    }
    numbers
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|it| it == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, &'static str)> {
        let findings = check(&File::new(path, text));
        findings.into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    const PATH: &str = "crates/mux/src/a.rs";

    #[test]
    fn the_clock_of_the_system_is_found() {
        let std = "use std::{\n    fmt,\n    time::{Duration, Instant},\n};\n";
        let reads = "let a = Instant::now();\nlet b = a.elapsed();\nonce(Instant::now);\n";
        let all = [(5, "clock"), (6, "clock"), (7, "clock")];
        assert_eq!(found(PATH, &format!("{std}{reads}")), all);
        let tokio = "use std::fmt;\nuse tokio::time::Instant;\n";
        assert_eq!(found(PATH, &format!("{tokio}{reads}")), []);
        let paths =
            "tokio::time::Instant::now();\nstd::time::Instant::now();\nSystemTime::now();\n";
        assert_eq!(found(PATH, paths), [(2, "clock"), (3, "clock")]);
        assert_eq!(found(PATH, &format!("{std}tokio::time::Instant::now();\n")), []);
        assert_eq!(found("crates/cli/src/a.rs", paths), []);
    }

    #[test]
    fn a_generator_that_nobody_seeds_is_found() {
        let draws =
            "fastrand::u64(..);\nRng::new();\nfastrand::Rng::with_seed(1);\nrandom::u64();\n";
        assert_eq!(found(PATH, draws), [(1, "random"), (2, "random")]);
        assert_eq!(found(PATH, "let mut random: fastrand::Rng = random;\n"), []);
    }

    #[test]
    fn a_select_begins_with_biased() {
        let open = "    tokio::select! {\n        // Why.\n";
        assert_eq!(found(PATH, &format!("{open}        biased;\n")), []);
        assert_eq!(found(PATH, &format!("{open}        () = a => {{}}\n")), [(1, "select")]);
        assert_eq!(found(PATH, "let a = select! { biased; () = a => {} };\n"), []);
        assert_eq!(found("crates/cli/src/a.rs", "select! { () = a => {} }\n"), [(1, "select")]);
    }

    #[test]
    fn tests_and_remarks_are_left_alone() {
        let read = "std::time::Instant::now();\n";
        for path in ["crates/mux/src/tests.rs", "crates/mux/tests/it/a.rs", "xtask/src/a.rs"] {
            assert_eq!(found(path, read), []);
        }
        assert_eq!(found(PATH, &format!("//! {read}/// {read}    // {read}")), []);
        let module = format!("#[cfg(all(test, unix))]\nmod tests {{\n    {read}}}\n{read}");
        assert_eq!(found(PATH, &module), [(5, "clock")]);
    }
}
