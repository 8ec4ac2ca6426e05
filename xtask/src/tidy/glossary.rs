//! Rule for names: one word of the field for each concept, and an old name does not come back.
//!
//! `glossary.txt` has a row for each name that is replaced: old, new, and `today` as long as the
//! tree still declares the old one. Who renames takes the mark out.

use std::collections::BTreeMap;

use super::Finding;
use super::tree::File;

const PATH: &str = "xtask/src/tidy/glossary.txt";
const TABLE: &str = include_str!("glossary.txt");

/// Words that may stand before the one that says what is declared.
const MODIFIERS: [&str; 6] = ["pub", "crate", "super", "in", "async", "unsafe"];

const DECLARATIONS: [&str; 8] = ["struct", "enum", "trait", "type", "fn", "mod", "const", "static"];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    compare(TABLE, files)
}

fn compare(table: &str, files: &[File]) -> Vec<Finding> {
    let places = declarations(files);
    let mut findings = Vec::new();
    let mut find = |path: &str, line, message| {
        findings.push(Finding { path: path.to_owned(), line, rule: "glossary", message });
    };
    let mut crates = Vec::new();
    for (number, row) in table.lines().enumerate().map(|(index, row)| (index + 1, row)) {
        if let Some(names) = row.strip_prefix('[').and_then(|row| row.strip_suffix(']')) {
            crates = names.split(' ').collect();
            continue;
        }
        let (old, new, is_left) = match row.split(' ').collect::<Vec<_>>()[..] {
            _ if row.is_empty() || row.starts_with('#') => continue,
            [old, new] => (old, new, false),
            [old, new, "today"] => (old, new, true),
            _ => {
                find(PATH, number, "a row is `old new` or `old new today`.".to_owned());
                continue;
            }
        };
        let mut found = crates.iter().filter_map(|name| places.get(&(*name, old))).flatten();
        if is_left && found.next().is_none() {
            find(PATH, number, format!("`{old}` is gone. Take the mark `today` out of its row."));
        } else if !is_left {
            found.for_each(|(path, line)| {
                find(path, *line, format!("`{old}` is called `{new}`. See {PATH}."));
            });
        }
    }
    findings
}

/// Crate and name of everything that the sources of crates declare, and where.
fn declarations(files: &[File]) -> BTreeMap<(&str, &str), Vec<(&str, usize)>> {
    let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.has_extension("rs")) {
        let below = file.path.strip_prefix("crates/").and_then(|rest| rest.split_once("/src/"));
        let Some((name, _)) = below else { continue };
        for (line, text) in file.lines() {
            if let Some(declared) = declared(text) {
                places.entry((name, declared)).or_default().push((file.path.as_str(), line));
            }
        }
    }
    places
}

/// The name that a line declares, if it does. Types inside a trait or an `impl` do not count: such
/// a name belongs to the trait.
fn declared(line: &str) -> Option<&str> {
    let start = line.trim_start();
    let mut words = start.split(|c: char| !c.is_alphanumeric() && c != '_');
    let is_code = start.starts_with(|c: char| c.is_ascii_lowercase());
    let what = words.find(|word| !word.is_empty() && !MODIFIERS.contains(word))?;
    if !is_code || !DECLARATIONS.contains(&what) || (what == "type" && start != line) {
        return None;
    }
    words.find(|word| !word.is_empty() && !["fn", "unsafe"].contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(table: &str, code: &str) -> Vec<(String, usize)> {
        let files = [File::new("crates/mux/src/a.rs", code)];
        compare(table, &files).into_iter().map(|finding| (finding.path, finding.line)).collect()
    }

    #[test]
    fn an_old_name_cannot_come_back() {
        let table = "# words\n[codec mux]\nPulse KeepAlive\n\n[plane]\nCut SplitItem\n";
        let place = |line| vec![("crates/mux/src/a.rs".to_owned(), line)];
        assert_eq!(found(table, "//! A.\npub(crate) struct Pulse {"), place(2));
        assert!(found(table, "struct Pulses;\n// struct Pulse\nlet Pulse = 1;\n").is_empty());
        assert!(found(table, "struct Cut;").is_empty(), "a word of another crate");
    }

    #[test]
    fn a_name_that_is_gone_leaves_the_list() {
        let table = "[mux]\nPulse KeepAlive today\n";
        assert!(found(table, "enum Pulse {}").is_empty());
        assert_eq!(found(table, "enum KeepAlive {}"), [(PATH.to_owned(), 2)]);
        assert_eq!(found("[mux]\nPulse\n", ""), [(PATH.to_owned(), 2)]);
    }

    #[test]
    fn declarations_are_told_from_uses() {
        assert_eq!(declared("    pub(super) async fn tend(&mut self)"), Some("tend"));
        assert_eq!(declared("const fn cut() {}"), Some("cut"));
        assert_eq!(declared("pub type Cut = fn();"), Some("Cut"));
        assert_eq!(declared("    type Target = A;"), None);
        assert_eq!(declared("        self.tend(fn_pointer);"), None);
    }
}
