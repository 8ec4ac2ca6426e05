//! The files of the repository that people write, read into memory.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Kinds of files with rules. Others (pictures, corpora, lock files) are not written by hand.
const EXTENSIONS: [&str; 5] = ["rs", "toml", "md", "sh", "yml"];

/// Hidden folders that are part of the repository.
const HIDDEN: [&str; 3] = [".ci", ".cargo", ".github"];

/// What builds and fuzzing leave behind, at any depth.
const PRODUCED: [&str; 3] = ["target", "corpus", "artifacts"];

/// One text file.
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    #[cfg(test)]
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, found)| found == extension)
    }

    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// All files below `root` that have rules, in the order of their paths.
pub(crate) fn read(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    walk(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let is_hidden = name.starts_with('.') && !HIDDEN.contains(&name.as_str());
        if is_hidden || PRODUCED.contains(&name.as_str()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{path}/"), files)?;
            continue;
        }
        let file = File { path, text: String::new() };
        let is_script = file.path.starts_with(".ci/");
        if is_script || EXTENSIONS.iter().any(|extension| file.has_extension(extension)) {
            let text = fs::read_to_string(entry.path());
            let text = text.with_context(|| format!("reading {}", file.path))?;
            files.push(File { text, ..file });
        }
    }
    Ok(())
}
