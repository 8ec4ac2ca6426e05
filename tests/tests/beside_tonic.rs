//! The page that has a service of ours beside one of tonic's, and the programs that it shows.

use std::{fs, path::Path};

/// A file of the repository, from a line on that begins so.
fn from(path: &str, beginning: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{path}: {error}"));
    let at = if text.starts_with(beginning) {
        0
    } else {
        text.find(&format!("\n{beginning}")).unwrap_or_else(|| panic!("{path}")) + 1
    };
    text[at..].to_owned()
}

fn lines(text: &str) -> usize {
    text.lines().filter(|line| !line.trim().is_empty()).count()
}

#[test]
fn the_readme_shows_the_programs_of_two_processes_as_they_are_compiled() {
    let readme = from("README.md", "#");
    for example in ["worker", "caller"] {
        let program = from(&format!("crates/runtime-facade/examples/{example}.rs"), "use ");
        assert!(readme.contains(&format!("```rust,no_run\n{program}```")), "{example}");
    }
}

#[test]
fn both_pages_show_what_is_compiled_and_ours_is_shorter() {
    let (page, readme) = (from("docs/beside-tonic.md", "#"), from("README.md", "#"));
    let ours = from("crates/runtime-facade/examples/words.rs", "use ");
    assert!(page.contains(&format!("```rust\n{ours}```")), "the example is not on the page");
    assert!(readme.contains(&format!("```rust\n{ours}```")), "the example is not in the README");
    let theirs = [
        from("benches/peers/words/proto/words.proto", "syntax"),
        from("benches/peers/words/build.rs", "fn main"),
        from("benches/peers/words/src/main.rs", "use "),
    ];
    for file in &theirs {
        assert!(page.contains(&format!("\n{file}```")), "not on the page:\n{file}");
    }
    let (ours, theirs) = (lines(&ours), theirs.iter().map(|file| lines(file)).sum::<usize>());
    assert!(page.contains(&format!("\n{ours} lines")), "ours has {ours} lines");
    assert!(page.contains(&format!("\n{theirs} lines")), "theirs has {theirs} lines");
    // The example of the README before there were typed endpoints had 20.
    assert!(ours < 20 && ours < theirs, "{ours} and {theirs}");
}
