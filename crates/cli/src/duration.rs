//! Durations as people write them.

use std::time::Duration;

use clap::Arg;

/// What all options have in common that take a time.
pub(crate) trait TimeOption {
    /// Shows the value as TIME, and gives what begins with a hyphen to the reader of times, which
    /// says that no time is negative.
    fn time(self) -> Self;
}

impl TimeOption for Arg {
    fn time(self) -> Self {
        self.value_name("TIME").allow_hyphen_values(true)
    }
}

/// Reads `2s`, `500ms`, `1.5m`, `1h`, or a number of seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    // The options take what begins with a hyphen, or else would be told that it is an option.
    if text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return Err("a time is not negative: write a number such as 500ms or 2s".to_owned());
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number and ms, s, m or h, such as 500ms or 2s".to_owned()),
    };
    let number: f64 =
        number.parse().map_err(|_| "write a number first, such as 500ms or 2s".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "is too long".to_owned())
}

/// As [`parse`], for a time that is not nothing.
pub(crate) fn parse_some(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("leaves no time for anything; without the option there is no limit \
                               of time"
            .to_owned()),
        time => Ok(time),
    }
}

/// Reads the limit of a wait: a time over zero, or `off` for no limit.
pub(crate) fn limit(text: &str) -> Result<Duration, String> {
    match text {
        "off" => Ok(Duration::MAX),
        _ => match parse(text)? {
            Duration::ZERO => Err("must be longer than zero; write off for no limit".to_owned()),
            limit => Ok(limit),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_not_some_time() {
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        assert!(parse_some("0ms").is_err());
        assert_eq!(parse_some("1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn a_limit_is_a_time_or_off() {
        assert_eq!(limit("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(limit("off"), Ok(Duration::MAX));
        for bad in ["0", "0s", "none", "-1s", ""] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_negative_time_is_called_so() {
        for text in ["-1s", "-0.5", "-2ms"] {
            for read in [parse, parse_some, limit] {
                assert!(read(text).unwrap_err().contains("not negative"), "{text}");
            }
        }
        assert!(parse("--data").unwrap_err().contains("write a number"));
    }

    #[test]
    fn units_are_read() {
        for (text, millis) in
            [("2", 2_000), ("500ms", 500), ("1.5s", 1_500), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "-1s", "1d", "1.2.3", "9e9", "99999999999999999999h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
