//! Escapes foreign text so that it is safe to show to people.
//!
//! A terminal executes control characters, and a bidirectional character makes it show text in
//! another order than it is stored. Error texts, names and addresses come from peers and from
//! files, so they are shown with such characters escaped. Escape text where it is shown, and not
//! where it is stored, so that programs read it unchanged.

use std::borrow::Cow;

/// Returns `text` as one line, with control characters (line breaks and tabs too), bidirectional
/// and other invisible format characters escaped. Borrowed if there are none.
///
/// ```
/// use sinew_telemetry::printable;
///
/// assert_eq!(printable("caf\u{e9} \u{2192} ok"), "caf\u{e9} \u{2192} ok");
/// assert_eq!(printable("a\u{1b}[2Jb\u{202e}c"), r"a\u{1b}[2Jb\u{202e}c");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |_, _| false)
}

/// Returns `text` with its line breaks. Further lines are indented, so that none of them looks like
/// a message of its own; tabs stay. The rest is escaped as in [`printable`].
///
/// ```
/// use sinew_telemetry::printable_lines;
///
/// assert_eq!(printable_lines("it failed:\nerror: all is well"), "it failed:\n    error: all is well");
/// ```
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let text = match text.contains("\r\n") {
        true => Cow::Owned(text.replace("\r\n", "\n")),
        false => Cow::Borrowed(text),
    };
    let keep = |c: char, out: &mut String| {
        match c {
            '\n' => out.push_str("\n    "),
            '\t' => out.push('\t'),
            _ => return false,
        }
        true
    };
    match text {
        Cow::Borrowed(text) => escaped(text, keep),
        Cow::Owned(text) => Cow::Owned(escaped(&text, keep).into_owned()),
    }
}

#[cfg(feature = "subscriber")]
/// One or more lines of output for a terminal, with their line ends. `keep_colours` lets the
/// sequences through that only set colours and weight, as a log writer sends them. What is not
/// UTF-8 is escaped byte by byte.
pub(crate) fn printable_output(bytes: &[u8], keep_colours: bool) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        let mut text = chunk.valid();
        while let Some(at) = text.find(needs_escape) {
            let (plain, special) = text.split_at(at);
            out.push_str(plain);
            let colour = if keep_colours { colour_sequence(special) } else { 0 };
            let mut characters = special.chars();
            let first = characters.next();
            text = characters.as_str();
            match first {
                Some(_) if colour > 0 => {
                    out.push_str(&special[..colour]);
                    text = &special[colour..];
                }
                Some(c @ ('\n' | '\t')) => out.push(c),
                // A program's progress line becomes lines.
                Some('\r') if !text.starts_with('\n') => out.push('\n'),
                Some('\r') | None => {}
                Some(c) => out.extend(c.escape_unicode()),
            }
        }
        out.push_str(text);
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out
}

#[cfg(feature = "subscriber")]
/// The length of the sequence at the beginning of `text` that only sets colours, or 0.
fn colour_sequence(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("\u{1b}[") else { return 0 };
    let digits = rest.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(rest.len());
    if rest[digits..].starts_with('m') { 2 + digits + 1 } else { 0 }
}

fn escaped(text: &str, keep: impl Fn(char, &mut String) -> bool) -> Cow<'_, str> {
    let Some(at) = text.find(needs_escape) else { return Cow::Borrowed(text) };
    let (plain, special) = text.split_at(at);
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(plain);
    for c in special.chars() {
        if !needs_escape(c) {
            out.push(c);
        } else if !keep(c, &mut out) {
            match c {
                '\n' | '\r' | '\t' => out.extend(c.escape_default()),
                _ => out.extend(c.escape_unicode()),
            }
        }
    }
    Cow::Owned(out)
}

/// True for what a terminal obeys, reorders or does not show.
fn needs_escape(c: char) -> bool {
    // C0 and C1 controls and DEL; most text ends here.
    if c.is_control() {
        return true;
    }
    if (c as u32) < 0xad {
        return false;
    }
    matches!(c,
        '\u{ad}'                                  // soft hyphen
        | '\u{34f}'                               // combining grapheme joiner
        | '\u{61c}'                               // bidirectional mark
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // letters without a shape
        | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'                 // zero width; bidirectional marks
        | '\u{2028}'..='\u{202e}'                 // line separators; bidirectional embedding
        | '\u{2060}'..='\u{206f}'                 // invisible operators; bidirectional isolates
        | '\u{fe00}'..='\u{fe0d}'                 // variation selectors but those of emoji
        | '\u{feff}'                              // byte order mark
        | '\u{fff0}'..='\u{fffb}'                 // interlinear annotation
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}'               // tags and further selectors
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_hides_is_escaped() {
        for c in (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32) {
            let shown = printable(&format!("a{c}b")).into_owned();
            assert!(shown.chars().all(|c| c.is_ascii_graphic()), "{c:?}: {shown}");
        }
        for c in "\u{202a}\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}\u{200b}\u{200d}\u{feff}\
                  \u{ad}\u{2028}\u{e0041}\u{2060}"
            .chars()
        {
            assert!(!printable(&format!("a{c}b")).contains(c), "{c:?}");
            assert!(!printable_lines(&format!("a{c}b")).contains(c), "{c:?}");
        }
    }

    #[test]
    fn what_people_write_is_left_as_it_is() {
        for text in ["", "plain", "naïve café", "日本語 🦀 ⚠\u{fe0f}", "עברית", r"C:\x1b"]
        {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
            assert!(matches!(printable_lines(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn a_further_line_never_begins_where_a_first_one_does() {
        assert_eq!(printable_lines("a\r\nhint: b\n\tc\rd"), "a\n    hint: b\n    \tc\\rd");
        assert_eq!(printable("a\nb\r\tc"), r"a\nb\r\tc");
    }

    #[cfg(feature = "subscriber")]
    #[test]
    fn output_keeps_its_lines_and_at_most_its_colours() {
        let red = "\u{1b}[1;31mred\u{1b}[0m\n";
        assert_eq!(printable_output(red.as_bytes(), true), red);
        assert_eq!(printable_output(red.as_bytes(), false), "\\u{1b}[1;31mred\\u{1b}[0m\n");
        let hostile = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{1b}[";
        let shown = printable_output(hostile.as_bytes(), true);
        assert!(!shown.contains(|c: char| c.is_control()), "{shown}");
        assert_eq!(printable_output("a\u{202e}b".as_bytes(), true), r"a\u{202e}b");
        assert_eq!(printable_output(b"10%\r20%\r\nend\xff\x80", false), "10%\n20%\nend\\xff\\x80");
    }
}
