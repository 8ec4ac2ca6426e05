//! Rules for Rust files.

use super::Finding;
use super::tree::File;

/// Longest source file of a crate, in lines. Good ones are 100 to 350; beyond this a second
/// concept has moved in.
const MOST_LINES: usize = 500;

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, rule: &'static str, message: &str| {
        findings.push(Finding { path: file.path.clone(), line, rule, message: message.to_owned() });
    };
    if !file.text.starts_with("//!") {
        find(
            1,
            "module",
            "the file does not open with `//!`. A reader decides from that line whether to read \
             on: say what the module is about.",
        );
    }
    let lines = file.text.lines().count();
    if is_library_source(file) && !is_test(file) && lines > MOST_LINES {
        find(
            0,
            "length",
            &format!(
                "{lines} lines, at most {MOST_LINES} are allowed. Look for the second noun in it \
                 and give that its own module; long tests go to a sibling tests.rs."
            ),
        );
    }
    for (number, line) in file.lines() {
        let code = line.trim_start();
        if code.starts_with("#[ignore") {
            find(
                number,
                "ignore",
                "a test that is switched off proves nothing and rots. Make it run, or delete it.",
            );
        }
        if is_test(file) && !code.starts_with("//") && calls_sleep(code) {
            find(
                number,
                "sleep",
                "a sleep in a test is too short on a slow machine and too long on all others. \
                 Wait for the event itself, with a generous timeout as the guard.",
            );
        }
    }
    for number in unexplained_levels(&file.text) {
        find(
            number,
            "reason",
            "an allowed or expected lint without `reason = \"...\"`. The next reader has to know \
             whether it is still needed.",
        );
    }
    findings
}

pub(super) fn is_library_source(file: &File) -> bool {
    file.path.starts_with("crates/") && file.path.contains("/src/")
}

/// By its own name, or by the nearest of the folders `tests` and `src` that it lies in: a program
/// that tests run is in a `src` below `tests`.
pub(super) fn is_test(file: &File) -> bool {
    let folders = file.path.rsplit('/').skip(1);
    let nearest = folders.into_iter().find(|folder| matches!(*folder, "tests" | "src"));
    file.name() == "tests.rs" || nearest == Some("tests")
}

fn calls_sleep(code: &str) -> bool {
    code.match_indices("sleep(").any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

/// Numbers of the lines that open a lint attribute without a reason.
fn unexplained_levels(text: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    let mut start = 0;
    for (index, line) in text.lines().enumerate() {
        let code = line.trim_start();
        let inner = code.strip_prefix("#![").or_else(|| code.strip_prefix("#["));
        let opens = inner
            .is_some_and(|inner| ["allow(", "expect("].iter().any(|open| inner.starts_with(open)));
        if opens {
            // The attribute may span lines, so it is read to its end, not to the line's.
            let attribute = text[start..].split(")]").next().unwrap_or_default();
            if !attribute.contains("reason") {
                numbers.push(index + 1);
            }
        }
        start += line.len() + 1;
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(path: &str, text: &str, expected: &[(usize, &str)]) {
        let found = check(&File::new(path, text));
        let found: Vec<_> = found.iter().map(|finding| (finding.line, finding.rule)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_module_opens_with_its_subject() {
        check_text("crates/a/src/b.rs", "//! About b.\n", &[]);
        check_text("crates/a/src/b.rs", "use c;\n", &[(1, "module")]);
        check_text("crates/a/src/b.rs", "", &[(1, "module")]);
    }

    #[test]
    fn only_sources_have_a_longest_length() {
        let long = format!("//! Long.\n{}", "\n".repeat(MOST_LINES));
        check_text("crates/a/src/b.rs", &long, &[(0, "length")]);
        check_text("crates/a/src/b/tests.rs", &long, &[]);
        check_text("tests/tests/long.rs", &long, &[]);
    }

    #[test]
    fn tests_are_neither_switched_off_nor_waiting_for_time() {
        let sleeping = "//! Waits.\nthread::sleep(SECOND);\n// sleep(a remark)\nno_sleep();\n";
        check_text("crates/a/src/b/tests.rs", sleeping, &[(2, "sleep")]);
        check_text("tests/tests/it.rs", sleeping, &[(2, "sleep")]);
        check_text("crates/a/src/b.rs", sleeping, &[]);
        check_text("tests/program/src/main.rs", sleeping, &[]);
        let off = format!("//! Off.\n#[{}]\n", "ignore");
        check_text("crates/a/src/b.rs", &off, &[(2, "ignore")]);
    }

    #[test]
    fn an_allowed_lint_says_why() {
        let attribute = |inside: &str| format!("//! A.\n#[{}{inside})]\nfn a() {{}}\n", "allow(");
        check_text("a.rs", &attribute("dead_code"), &[(2, "reason")]);
        check_text("a.rs", &attribute("dead_code, reason = \"because\""), &[]);
        check_text("a.rs", &attribute("\n    dead_code,\n    reason = \"because\"\n"), &[]);
    }
}
