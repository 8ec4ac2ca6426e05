//! Times and lines as people read them.

use std::{borrow::Cow, time::Duration};

/// Lines of a text from elsewhere that are shown of its beginning, and as many of its end: what
/// went wrong stands at one or the other.
const SHOWN_LINES: usize = 20;

/// A time in seconds, with as many digits as tell something: `0.2 s`, `1 s`, `12.5 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let exact = time.as_secs_f64();
    let text = if exact < 0.01 { format!("{exact:.4}") } else { format!("{exact:.2}") };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{} s", if text.is_empty() { "0" } else { text })
}

/// `text` without the middle, where it has many lines.
pub(crate) fn abridged(text: &str) -> Cow<'_, str> {
    let lines: Vec<&str> = text.lines().collect();
    let middle = lines.len().saturating_sub(2 * SHOWN_LINES);
    // A line left out is as long as the note about it.
    if middle <= 1 {
        return Cow::Borrowed(text);
    }
    let (first, rest) = lines.split_at(SHOWN_LINES);
    let note = format!("... and {middle} more lines ...");
    let last = &rest[middle..];
    Cow::Owned([first, &[note.as_str()], last].concat().join("\n"))
}

/// `text` in lines of at most `width` characters, broken between words. A line that begins with
/// spaces goes on under its own beginning.
pub(crate) fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let mut used = 0;
        for word in line.split_whitespace() {
            let length = word.chars().count();
            if used > 0 && used + 1 + length > width {
                out.push('\n');
                used = 0;
            }
            let lead = if used == 0 { indent } else { 1 };
            out.extend(std::iter::repeat_n(' ', lead));
            out.push_str(word);
            used += lead + length;
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_true() {
        for (millis, text) in
            [(0, "0 s"), (1, "0.001 s"), (200, "0.2 s"), (1_000, "1 s"), (12_504, "12.5 s")]
        {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
        assert_eq!(seconds(Duration::from_secs(120)), "120 s");
    }

    #[test]
    fn a_text_of_many_lines_is_shown_without_its_middle() {
        let lines = |count: usize| (1..=count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(abridged(&lines(41).join("\n")), lines(41).join("\n"));
        let shown = abridged(&lines(4_096).join("\n")).into_owned();
        let shown: Vec<_> = shown.lines().collect();
        assert_eq!((shown.len(), shown[19], shown[40]), (41, "20", "4096"));
        assert_eq!(shown[20], "... and 4056 more lines ...");
        assert_eq!(abridged(&"\n".repeat(4_096)).lines().count(), 40);
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("a bb ccc\n  dd ee", 6), "a bb\nccc\n  dd\n  ee\n");
        assert_eq!(wrapped("unbreakable x", 4), "unbreakable\nx\n");
        assert_eq!(wrapped("", 4), "");
    }
}
