//! Logging as text on standard error.

use std::{
    fmt,
    io::{self, IsTerminal, stderr},
    sync::Arc,
};

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt,
    fmt::{
        FormatFields, MakeWriter,
        format::{Writer, debug_fn},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
};

use crate::{
    capped::capped,
    console,
    limited::{Limited, Limits},
    printable::{printable, printable_output},
};

/// Sends events to standard error, one line each: time, level, spans with their fields, target,
/// message, fields. Coloured only on a terminal. Control characters and invisible format characters
/// in them are escaped.
///
/// Of warnings and errors that repeat at one place in the program a few are shown, with a count of
/// the rest: see [`report_repeats`]. If standard error is closed, full or not read, lines are lost
/// and the program continues.
///
/// `filter` is a comma-separated list of `level` or `target=level`, such as `warn`, or
/// `info,sinew::request=debug` to see every request. It does not read the environment: a program
/// passes the value of `SINEW_LOG`, else of `RUST_LOG`, else its own default. Libraries that log
/// payloads, such as the NATS client, are capped at `info` whatever the filter says.
///
/// # Errors
/// The filter is malformed, or the process has a subscriber already. Nothing was changed.
pub fn init_logging(filter: &str) -> Result<(), LoggingError> {
    let fault = |reason: String| LoggingError::Filter { reason };
    let filter = EnvFilter::try_new(filter).map_err(|error| fault(error.to_string()))?;
    let is_coloured = stderr().is_terminal();
    let limits = Arc::new(Limits::default());
    let writer = StandardError { is_coloured };
    let subscriber = subscriber(filter, is_coloured, writer, Arc::clone(&limits));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::AlreadySet)?;
    limits.publish();
    Ok(())
}

/// Writes one line for each place in the program whose warnings were counted and not shown, once
/// their ten seconds have passed; with `at_once`, without that wait, as at the end of a program.
/// Call it periodically. It does nothing without [`init_logging`].
pub fn report_repeats(at_once: bool) {
    if let Some(limits) = Limits::published() {
        let is_coloured = stderr().is_terminal();
        limits.report(at_once, &mut |line| {
            console::write(one_line(line.as_bytes(), is_coloured).as_bytes());
        });
    }
}

fn subscriber<W>(
    filter: EnvFilter,
    is_coloured: bool,
    writer: W,
    limits: Arc<Limits>,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_coloured)
        .fmt_fields(fields())
        .event_format(Limited::new(is_coloured, limits))
        .with_writer(writer)
        .finish()
        .with(capped())
}

/// The usual form of fields, with their values escaped: only our own colours are left then.
fn fields() -> impl for<'a> FormatFields<'a> + 'static {
    let write = |writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let text = format!("{value:?}");
        let value = printable(&text);
        match (field.name(), writer.has_ansi_escapes()) {
            ("message", _) => writer.write_str(&value),
            // Italic name, dim sign.
            (name, true) => write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}"),
            (name, false) => write!(writer, "{name}={value}"),
        }
    };
    debug_fn(write).delimited(" ")
}

/// Writes each event in one piece.
#[derive(Clone, Copy)]
struct StandardError {
    is_coloured: bool,
}

impl io::Write for StandardError {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if !event.is_empty() {
            console::write(one_line(event, self.is_coloured).as_bytes());
        }
        // Whatever became of it: the event is no matter of whoever reported it.
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for StandardError {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

/// An event as one line: line breaks within it are escaped, so that no text from elsewhere passes
/// for an event of its own. The fields are escaped already, so that colours are our own.
fn one_line(event: &[u8], is_coloured: bool) -> String {
    let body = event.strip_suffix(b"\n").unwrap_or(event);
    let mut line = String::with_capacity(event.len() + 8);
    for (position, part) in body.split(|byte| matches!(byte, b'\n' | b'\r')).enumerate() {
        if position > 0 {
            line.push_str("\\n");
        }
        line.push_str(&printable_output(part, is_coloured));
    }
    line.push('\n');
    line
}

/// Why logging was not set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// The filter is malformed.
    #[error(
        "log filter: {reason}; write LEVEL or TARGET=LEVEL, separated by commas, such as \
         info,sinew::request=debug"
    )]
    Filter {
        /// What is wrong with it.
        reason: String,
    },
    /// The process has a subscriber already, which stays in use.
    #[error("this process has a log subscriber already")]
    AlreadySet,
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[test]
    fn a_bad_filter_changes_nothing_and_a_second_subscriber_is_refused() {
        let error = init_logging("info,sinew=loud").unwrap_err();
        assert!(error.to_string().starts_with("log filter:"), "{error}");
        assert_eq!(init_logging("error"), Ok(()));
        assert_eq!(init_logging("error"), Err(LoggingError::AlreadySet));
    }

    /// Keeps what is written, as the terminal would get it.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<String>>);

    impl io::Write for Kept {
        fn write(&mut self, event: &[u8]) -> io::Result<usize> {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !event.is_empty() {
                kept.push_str(&one_line(event, true));
            }
            Ok(event.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> String {
        logged_by("debug", log)
    }

    fn logged_by(filter: &str, log: impl FnOnce()) -> String {
        let (kept, limits) = (Kept::default(), Arc::new(Limits::default()));
        let writer = {
            let kept = kept.clone();
            move || kept.clone()
        };
        let subscriber = subscriber(EnvFilter::new(filter), true, writer, Arc::clone(&limits));
        tracing::subscriber::with_default(subscriber, log);
        let mut text = kept.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        limits.report(true, &mut |line| text.push_str(line));
        text
    }

    #[test]
    fn no_filter_shows_what_the_libraries_below_carry() {
        for filter in ["trace", "async_nats=trace,h2=trace,sinew=trace", "async_nats[x]=trace"] {
            let text = logged_by(filter, || {
                tracing::trace!(target: "async_nats::connection", payload = "hush", "PUB");
                tracing::debug!(target: "async_nats", subject = "hush", "MESSAGE");
                tracing::trace!(target: "h2::hpack", header = "hush", "encoded");
                tracing::debug!(target: "hyper_util::client", header = "hush", "sent");
                tracing::trace!(target: "sinew::request", "ours");
            });
            assert!(!text.contains("hush"), "{filter}: {text}");
            assert_eq!(text.contains("ours"), filter != "async_nats[x]=trace", "{filter}: {text}");
        }
        let text = logged_by("info", || {
            tracing::warn!(target: "async_nats", "the connection broke");
            tracing::debug!(target: "async_nats", "hush");
        });
        assert!(text.contains("the connection broke") && !text.contains("hush"), "{text}");
    }

    #[test]
    fn texts_of_peers_reach_the_terminal_escaped_and_in_one_line() {
        let hostile = "\u{1b}[2J\u{1b}[31mred\u{9b}2J\u{7}\n1970-01-01 ERROR forged\r\u{202e}x";
        let text = logged(|| {
            let span = tracing::info_span!("request", peer = hostile);
            let _in_it = span.enter();
            tracing::warn!(error = hostile, "{hostile}");
            tracing::debug!(error = %hostile, name = ?hostile, "{hostile}");
        });
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(!text.contains(['\u{7}', '\u{9b}', '\u{202e}', '\r']), "{text:?}");
        assert!(!text.contains("\u{1b}[2J") && !text.contains("\u{1b}[31mred"), "{text:?}");
        assert!(text.contains("\u{1b}["), "our own colours stay: {text:?}");
    }

    #[test]
    fn three_thousand_warnings_make_a_few_lines_with_a_count() {
        let text = logged(|| {
            for number in 0..3_000 {
                tracing::warn!(number, "a bad request");
            }
            tracing::warn!("another matter");
        });
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.len() <= 8, "{text}");
        assert!(text.contains("another matter"), "{text}");
        assert!(lines.last().unwrap().contains("3000 like this"), "{text}");
    }

    #[test]
    fn what_was_asked_for_by_level_is_not_limited() {
        let text = logged(|| (0..50).for_each(|number| tracing::debug!(number, "a step")));
        assert_eq!(text.lines().count(), 50);
    }
}
