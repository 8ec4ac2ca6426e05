//! The list of all settings, as text and as the page of the documentation.

use std::fmt::Write;

use sinew::settings::{Effect, Part, Setting, all};

/// Columns of the text.
const WIDTH: usize = 80;

const PREFACE: &str = "\
A process reads these variables once, when it starts. One that is set to nothing counts as not \
set. A name that begins with SINEW_ and stands in no row is an error, and so is a value that \
cannot be read, a variable and another name of it that say different things, and one that asks \
for what is not in the build.";

/// The parts in order, each with its settings.
fn parts() -> Vec<(Part, Vec<&'static Setting>)> {
    let mut parts: Vec<(Part, Vec<_>)> = Vec::new();
    for (part, setting) in all() {
        match parts.last_mut() {
            Some((last, settings)) if *last == part => settings.push(setting),
            _ => parts.push((part, vec![setting])),
        }
    }
    parts
}

/// What a setting is for, or why it changes nothing.
fn meaning(setting: &Setting) -> String {
    let mut text = setting.meaning().to_owned();
    match setting.effect() {
        Effect::NeedsFeature(feature) => {
            let _ = write!(text, " (feature {feature})");
        }
        Effect::NoEffect(why) => text.push_str(why),
        Effect::NotInThisBuild(what) if text.is_empty() => {
            let _ = write!(text, "asks for {what}");
        }
        _ => {}
    }
    text
}

/// For a terminal.
pub(super) fn text() -> String {
    let mut page = wrapped(PREFACE, 0);
    for (part, settings) in parts() {
        let _ = write!(page, "\n{part}\n");
        if part == Part::OtherPrograms {
            let names: Vec<_> = settings.iter().map(|one| one.name()).collect();
            page.push_str(&wrapped(&names.join(" "), 2));
            continue;
        }
        for setting in settings {
            let names: Vec<_> = setting.names().collect();
            let _ = write!(page, "\n{}", wrapped(&names.join(", "), 2));
            let missing = if setting.is_in_this_build() { "" } else { " Not in this build." };
            page.push_str(&wrapped(&format!("{}.{missing}", meaning(setting)), 6));
            let default = match setting.default() {
                "" => String::new(),
                default => format!(". Default: {default}"),
            };
            page.push_str(&wrapped(&format!("Values: {}{default}", setting.values()), 6));
        }
    }
    page
}

/// Lines of at most [`WIDTH`] columns, as far as the words allow.
fn wrapped(text: &str, indent: usize) -> String {
    let (mut lines, mut column) = (String::new(), 0);
    for word in text.split_whitespace() {
        if column == 0 {
            lines.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if column + 1 + word.chars().count() > WIDTH {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += word.chars().count();
    }
    lines.push('\n');
    lines
}

/// For `docs/settings.md`. It is the same in every build.
pub(super) fn markdown() -> String {
    let mut page = String::from(
        "# Settings\n\n<!-- Written by `cargo run -- config reference --format markdown`; a test \
         compares. -->\n\n",
    );
    let _ = writeln!(page, "{PREFACE} `sinew config reference` prints this list.");
    for (part, settings) in parts() {
        let _ = write!(page, "\n## {part}\n\n");
        match part {
            Part::OtherPrograms => names(&mut page, &settings),
            Part::Dynamo => few_columns(&mut page, &settings),
            _ => all_columns(&mut page, &settings),
        }
    }
    page
}

fn all_columns(page: &mut String, settings: &[&Setting]) {
    page.push_str("| variable | the same | values | default | meaning |\n|---|---|---|---|---|\n");
    for setting in settings {
        let aliases: Vec<_> = setting.aliases().iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            setting.name(),
            aliases.join(" "),
            setting.values(),
            setting.default(),
            meaning(setting)
        );
    }
}

fn few_columns(page: &mut String, settings: &[&Setting]) {
    page.push_str("| variable | values | what becomes of it |\n|---|---|---|\n");
    for setting in settings {
        let (name, values) = (setting.name(), setting.values());
        let _ = writeln!(page, "| `{name}` | {values} | {} |", meaning(setting));
    }
}

fn names(page: &mut String, settings: &[&Setting]) {
    page.push_str("Their values are checked where they are numbers or switches, and left.\n\n");
    let names: Vec<_> = settings.iter().map(|one| format!("`{}`", one.name())).collect();
    let _ = writeln!(page, "{}", names.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        let text = wrapped(&"word ".repeat(40), 4);
        assert!(text.lines().all(|line| line.len() <= WIDTH && line.starts_with("    word")));
        assert_eq!(text.split_whitespace().count(), 40);
    }

    #[test]
    fn every_setting_stands_on_both_pages_with_its_meaning() {
        let (text, markdown) = (text(), markdown());
        for (part, setting) in all() {
            assert!(setting.names().all(|name| text.contains(name)), "{setting:?}");
            assert!(setting.names().all(|name| markdown.contains(name)), "{setting:?}");
            assert!(part == Part::OtherPrograms || !meaning(setting).is_empty(), "{setting:?}");
            // A bar would end a cell.
            assert!(!meaning(setting).contains('|') && !setting.values().contains('|'));
        }
    }
}
