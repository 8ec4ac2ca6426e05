//! The words that the demo's workers stream.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};

/// Most words of one response. A larger text is asked for in turns of this many, so that the
/// demo takes seconds whatever the file.
pub(crate) const MAX_PER_RESPONSE: usize = 1_000;

/// Asks for `count` words from `first` on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Range {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// One word and where it stands in the text.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Word {
    pub(crate) position: usize,
    pub(crate) word: String,
}

/// Where the words come from.
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) source: String,
}

impl Text {
    /// `file`, or else the README.md of the current folder, or else the one of this command.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, Failure> {
        let fallback = Path::new("README.md");
        let loaded = match fs::read(file.unwrap_or(fallback)) {
            Ok(bytes) => Self {
                text: String::from_utf8_lossy(&bytes).into_owned(),
                source: file.unwrap_or(fallback).display().to_string(),
            },
            Err(error) => match file {
                Some(path) => {
                    let message = format!("cannot read {}: {error}", path.display());
                    return Err(Failure::new(Exit::Usage, message));
                }
                None => Self {
                    text: include_str!("../../README.md").to_owned(),
                    source: "the built-in README".to_owned(),
                },
            },
        };
        if loaded.text.split_whitespace().next().is_none() {
            let message = format!("{} has no words", loaded.source);
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok(loaded)
    }
}

/// The words of a text.
pub(crate) fn split(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// What request `number` asks for: all words, or of a long text one of its equal parts after the
/// other.
pub(crate) fn range(number: usize, words: usize) -> Range {
    let parts = words.div_ceil(MAX_PER_RESPONSE).max(1);
    let part = number % parts;
    let first = part * words / parts;
    Range { first, count: (part + 1) * words / parts - first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_cover_a_text_without_overlap() {
        for words in [1_usize, 999, 1_000, 1_001, 2_500] {
            let parts = words.div_ceil(MAX_PER_RESPONSE);
            let ranges: Vec<_> = (0..parts).map(|number| range(number, words)).collect();
            let mut next = 0;
            for range in &ranges {
                assert_eq!(range.first, next);
                assert!(range.count >= words / parts && range.count <= MAX_PER_RESPONSE);
                next += range.count;
            }
            assert_eq!(next, words);
            assert_eq!(range(parts, words).first, 0, "then from the start");
        }
    }

    #[test]
    fn a_text_without_words_and_a_missing_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let blank = dir.path().join("blank");
        fs::write(&blank, " \n\t").unwrap();
        assert!(Text::load(Some(&blank)).is_err());
        assert!(Text::load(Some(&dir.path().join("missing"))).is_err());
        // Tests run in the crate's folder, which has a README.
        assert_eq!(Text::load(None).unwrap().source, "README.md");
    }
}
