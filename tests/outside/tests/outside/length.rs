//! None of the files takes more than its promise.

use std::fs;

/// Of which a file has fewer, comments included.
const LINES: usize = 120;

#[test]
fn each_takes_one_short_file() {
    let mut files = Vec::new();
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
        let path = entry.unwrap().path();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < LINES, "{} has {lines} lines", path.display());
        files.push(path.file_name().unwrap().to_owned());
    }
    files.sort();
    assert_eq!(
        files,
        [
            "authentication.rs",
            "lib.rs",
            "limited.rs",
            "lines.rs",
            "masked.rs",
            "masked_runtime.rs",
            "sticky.rs",
        ]
    );
}
