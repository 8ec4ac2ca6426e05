//! Rules for any text: words and paths that do not belong into a published tree.

use std::path::Path;

use super::Finding;
use super::tree::File;

/// Marks of unfinished work. Written in two halves, as this file is checked as well.
const MARKS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// A word that says "old" without saying what is wrong with it; matched in any case.
const OLD: &str = concat!("leg", "acy");

/// What this version does not do yet, in the words that would promise it. Goes when it does.
const PROMISES: [&str; 2] =
    [concat!("streams that ", "survive"), concat!("survives its ", "connection")];

/// Where people's own files are, on the systems we know.
const HOMES: [&str; 4] = [
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/ro", "ot/"),
    concat!(":\\Us", "ers\\"),
];

pub(super) fn check(root: &Path, file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        let mut find = |rule, message| {
            let path = file.path.clone();
            findings.push(Finding { path, line: number, rule, message });
        };
        if let Some(word) = MARKS.into_iter().find(|mark| has_word(line, mark)) {
            find(
                "word",
                format!(
                    "`{word}` marks unfinished work, which nobody finds here. Finish it, or state \
                     the limit where users read about it."
                ),
            );
        }
        if let Some(promise) = PROMISES.into_iter().find(|it| line.to_lowercase().contains(it)) {
            find(
                "promise",
                format!(
                    "`{promise}` is not true everywhere yet: over NATS and where a worker dials back, a \
                     lost connection ends its streams as truncated. Say what holds today."
                ),
            );
        }
        if has_word(&line.to_lowercase(), OLD) {
            find(
                "word",
                format!("`{OLD}` does not say what is meant. Name the version, format or peer."),
            );
        }
        if is_public(file, line)
            && let Some(mark) = row_mark(line)
        {
            find(
                "row",
                format!("`{mark}` is a row of a table that readers cannot see. Say what it is."),
            );
        }
        if let Some(path) = personal_path(root, line) {
            find(
                "path",
                format!(
                    "`{path}` exists on one machine only. Use a path relative to the repository, \
                     or a temporary folder."
                ),
            );
        }
    }
    findings
}

/// True for what users read: documents, and the documentation of code.
fn is_public(file: &File, line: &str) -> bool {
    let line = line.trim_start();
    file.has_extension("md") || line.starts_with("///") || line.starts_with("//!")
}

/// A mark of a row: capital letters, a dash, perhaps one more, two digits.
fn row_mark(line: &str) -> Option<&str> {
    let is_word_byte = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
    let is_mark = |word: &&str| {
        let Some((table, row)) = word.split_once('-') else { return false };
        let digits = row.strip_prefix(|c: char| c.is_ascii_uppercase()).unwrap_or(row);
        (1..=4).contains(&table.len())
            && table.bytes().all(|b| b.is_ascii_uppercase())
            // Character sets and hashes are called so, too.
            && !["UTF", "SHA", "ISO"].contains(&table)
            && digits.len() == 2
            && digits.bytes().all(|b| b.is_ascii_digit())
    };
    line.split(|c: char| !c.is_ascii() || !is_word_byte(&(c as u8))).find(is_mark)
}

fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |letter: Option<char>| letter.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        !is_letter(line[..at].chars().next_back()) && !is_letter(after.chars().next())
    })
}

/// The part of an absolute path that is tied to a machine: a home, or where this checkout lies.
fn personal_path(root: &Path, line: &str) -> Option<String> {
    // A checkout right below `/` has a name too short to tell from any other word.
    let checkout = (root.components().count() > 2).then(|| root.display().to_string());
    HOMES.iter().map(|home| (*home).to_owned()).chain(checkout).find(|path| {
        line.match_indices(path.as_str()).any(|(at, _)| {
            // After a letter or a dot it is the middle of a relative path or an address.
            let before = line[..at].chars().next_back();
            path.starts_with(':')
                || !before.is_some_and(|c| c.is_alphanumeric() || "._-}".contains(c))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(line: &str) -> Vec<&'static str> {
        let file = File::new("a.md", line);
        check(Path::new("/one/two"), &file).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn marks_are_found_as_whole_words_only() {
        assert_eq!(rules(&format!("// {}: finish", MARKS[0])), ["word"]);
        assert_eq!(rules(&format!("a {} peer", OLD.to_uppercase())), ["word"]);
        assert!(rules(&format!("{}S and {}_peer", MARKS[0], OLD)).is_empty());
    }

    #[test]
    fn marks_of_rows_are_found_where_users_read() {
        let (mark, split) = (concat!("AB", "C-07"), concat!("B-", "A01"));
        assert_eq!(rules(&format!("as {mark} says")), ["row"]);
        assert_eq!(rules(&format!("(rows {split})")), ["row"]);
        assert!(rules("UTF-16, 2026-01, A-b01, x-86, TCP-4096").is_empty());
        let of_code = |line: &str| {
            let file = File::new("a.rs", line);
            check(Path::new("/one/two"), &file).len()
        };
        assert_eq!(of_code(&format!("/// {mark}")), 1);
        assert_eq!(of_code(&format!("// {mark}")), 0);
    }

    #[test]
    fn what_is_not_true_yet_is_not_promised() {
        assert_eq!(rules(&format!("Sinew: {}.", PROMISES[0].replace('s', "S"))), ["promise"]);
        assert!(rules("a stream ends exactly once").is_empty());
    }

    #[test]
    fn paths_of_a_machine_are_found_and_relative_ones_are_not() {
        assert_eq!(rules(&format!("see {}ann/file", HOMES[0])), ["path"]);
        assert_eq!(rules("cd /one/two/crates"), ["path"]);
        assert!(rules(&format!("https://example.org{}ann", HOMES[0])).is_empty());
        assert!(rules("see docs/one/two").is_empty());
    }
}
