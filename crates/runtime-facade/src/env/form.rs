//! The forms of values: how each is parsed, and how it changes the draft.

use std::{fmt, time::Duration};

use crate::{ByteSize, env::draft::Draft};

/// Which values a setting takes, and how a value changes the draft.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// `true` or `false`, or another word for one of them.
    Switch(fn(&mut Draft, bool)),
    /// A whole number of `unit`.
    Number { unit: &'static str, least: i64, most: i64, set: fn(&mut Draft, u64) },
    /// An amount of memory.
    Bytes { least: usize, most: usize, set: fn(&mut Draft, usize) },
    /// Whole seconds.
    Seconds { least: u64, most: u64, set: fn(&mut Draft, Duration) },
    /// Whole milliseconds.
    Millis { least: u64, most: u64, set: fn(&mut Draft, Duration) },
    /// One of some words.
    Choice { of: &'static [&'static str], set: fn(&mut Draft, &str) },
    /// Text, of the form that `form` describes. `set` returns what is wrong with a value that it
    /// cannot use.
    Text { form: &'static str, set: fn(&mut Draft, &str) -> Result<(), String> },
    /// Text that messages do not show.
    Secret(fn(&mut Draft, &str)),
}

/// A value that was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    Switch(bool),
    Number(i64),
    Bytes(usize),
    Time(Duration),
    Text(String),
}

impl Given {
    /// True for any value: for a setting that takes effect by being set.
    pub(super) fn at_all(&self) -> bool {
        true
    }

    /// True for a switch that is on.
    pub(super) fn is_on(&self) -> bool {
        *self == Self::Switch(true)
    }

    /// The value as text.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }
}

/// A number of things, 1 to `most`.
pub(super) const fn count(unit: &'static str, most: i64, set: fn(&mut Draft, u64)) -> Form {
    Form::Number { unit, least: 1, most, set }
}

/// A port; 0 picks a free one.
pub(super) const fn port(set: fn(&mut Draft, u64)) -> Form {
    Form::Number { unit: "port", least: 0, most: 65_535, set }
}

/// A setting that takes any text.
pub(super) const fn any(form: &'static str) -> Form {
    Form::Text { form, set: |_, _| Ok(()) }
}

/// One of some words, for a setting that has no effect.
pub(super) const fn one_of(of: &'static [&'static str]) -> Form {
    Form::Choice { of, set: |_, _| () }
}

/// A whole number, for a setting that has no effect.
pub(super) const fn number(unit: &'static str, least: i64) -> Form {
    Form::Number { unit, least, most: i64::MAX, set: |_, _| () }
}

/// A switch, for a setting that has no effect.
pub(super) const SWITCH: Form = Form::Switch(|_, _| ());

impl Form {
    /// Parses a value, and does not change the draft.
    ///
    /// # Errors
    /// What the value should be.
    pub(super) fn read(&self, text: &str) -> Result<Given, String> {
        let expected = || format!("is not {}", self.wanted());
        let whole = |least: u64, most: u64| {
            text.parse::<u64>().ok().filter(|n| (least..=most).contains(n)).ok_or_else(expected)
        };
        match *self {
            Self::Switch(_) => switch(text).map(Given::Switch).ok_or_else(expected),
            Self::Number { least, most, .. } => {
                let number = text.parse::<i64>().ok().filter(|n| (least..=most).contains(n));
                number.map(Given::Number).ok_or_else(expected)
            }
            Self::Bytes { least, most, .. } => {
                let amount = text.parse().ok().map(|ByteSize(bytes)| bytes);
                let amount = amount.filter(|bytes| (least..=most).contains(bytes));
                amount.map(Given::Bytes).ok_or_else(expected)
            }
            Self::Seconds { least, most, .. } => {
                whole(least, most).map(|n| Given::Time(Duration::from_secs(n)))
            }
            Self::Millis { least, most, .. } => {
                whole(least, most).map(|n| Given::Time(Duration::from_millis(n)))
            }
            // In any case, as Dynamo reads most of them.
            Self::Choice { of, .. } => {
                let word = of.iter().find(|word| word.eq_ignore_ascii_case(text));
                word.map(|word| Given::Text((*word).to_owned())).ok_or_else(expected)
            }
            Self::Text { .. } | Self::Secret(_) => Ok(Given::Text(text.to_owned())),
        }
    }

    /// Changes the draft by a value that was [parsed](Self::read).
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(&self, draft: &mut Draft, given: &Given) -> Result<(), String> {
        match (*self, given) {
            (Self::Switch(set), Given::Switch(on)) => set(draft, *on),
            (Self::Number { set, .. }, Given::Number(n)) => set(draft, n.unsigned_abs()),
            (Self::Bytes { set, .. }, Given::Bytes(bytes)) => set(draft, *bytes),
            (Self::Seconds { set, .. } | Self::Millis { set, .. }, Given::Time(time)) => {
                set(draft, *time);
            }
            (Self::Choice { set, .. }, Given::Text(text)) => set(draft, text),
            (Self::Secret(set), Given::Text(text)) => set(draft, text),
            (Self::Text { set, .. }, Given::Text(text)) => return set(draft, text),
            // A form takes what it has read.
            _ => {}
        }
        Ok(())
    }

    /// What a value should be, as the object of a sentence.
    fn wanted(&self) -> String {
        match self {
            Self::Switch(_) | Self::Choice { .. } => format!("one of {self}"),
            Self::Number { unit: "port", .. } => format!("a {self}"),
            Self::Number { .. } | Self::Seconds { .. } | Self::Millis { .. } => {
                format!("a whole number of {self}")
            }
            Self::Bytes { .. } => format!("an amount of {self}"),
            Self::Text { .. } | Self::Secret(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(_) => f.write_str("true, false"),
            Self::Number { unit, least, most: i64::MAX, .. } => {
                write!(f, "{unit}, {least} or more")
            }
            Self::Number { unit, least, most, .. } => write!(f, "{unit}, {least} to {most}"),
            Self::Bytes { least, most, .. } => {
                let (least, most) = (ByteSize(*least), ByteSize(*most));
                write!(f, "bytes, {least} to {most}, with a unit or without")
            }
            Self::Seconds { least, most, .. } => write!(f, "seconds, {least} to {most}"),
            Self::Millis { least, most, .. } => write!(f, "milliseconds, {least} to {most}"),
            Self::Choice { of, .. } => f.write_str(&of.join(", ")),
            Self::Text { form, .. } => f.write_str(form),
            Self::Secret(_) => f.write_str("a secret"),
        }
    }
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_says_what_it_takes() {
        for (form, bad, said) in [
            (SWITCH, "maybe", "is not one of true, false"),
            (port(|_, _| ()), "65536", "is not a port, 0 to 65535"),
            (count("requests", 9, |_, _| ()), "0", "is not a whole number of requests, 1 to 9"),
            (number("files", -1), "-2", "is not a whole number of files, -1 or more"),
            (one_of(&["a", "b"]), "c", "is not one of a, b"),
            (
                Form::Seconds { least: 1, most: 60, set: |_, _| () },
                "18446744073709551615",
                "is not a whole number of seconds, 1 to 60",
            ),
        ] {
            assert_eq!(form.read(bad).unwrap_err(), said);
        }
    }

    #[test]
    fn a_switch_has_several_words_and_case_does_not_count() {
        for (text, on) in [("1", true), ("TRUE", true), ("off", false), ("No", false)] {
            assert_eq!(SWITCH.read(text), Ok(Given::Switch(on)));
        }
        assert_eq!(one_of(&["tcp", "nats"]).read("TCP"), Ok(Given::Text("tcp".to_owned())));
    }
}
