//! The format of log lines, with a limit to how often one warning is shown.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use sinew_plane::clock;
use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Writer},
    },
    registry::LookupSpan,
};

use crate::repeats::{Counted, Repeats, Verdict};

/// The usual format; of warnings and errors as many as [`Limits`] lets through.
pub(crate) struct Limited {
    format: Format,
    limits: Arc<Limits>,
}

impl Limited {
    pub(crate) fn new(is_coloured: bool, limits: Arc<Limits>) -> Self {
        Self { format: Format::default().with_ansi(is_coloured), limits }
    }
}

impl<S, N> FormatEvent<S, N> for Limited
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // Levels are ordered by how much they let through.
        if *event.metadata().level() > Level::WARN {
            return self.format.format_event(ctx, writer, event);
        }
        let place = event.metadata().callsite();
        let mut writer = writer;
        match self.limits.admit(&place, clock::now()) {
            Verdict::Hide => Ok(()),
            shown => {
                let mut line = String::new();
                self.format.format_event(ctx, Writer::new(&mut line), event)?;
                let line = line.trim_end_matches('\n');
                self.limits.keep(&place, line);
                match shown {
                    Verdict::ShowWith(counted) => writeln!(writer, "{line} ({counted})"),
                    _ => writeln!(writer, "{line}"),
                }
            }
        }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = self.within.as_secs_f32();
        write!(f, "{} like this within {within:.1} s; most are not shown", self.count)
    }
}

/// The warnings of each place in the program. As many entries as places that have warned.
#[derive(Default)]
pub(crate) struct Limits(Mutex<HashMap<Identifier, Place>>);

#[derive(Default)]
struct Place {
    repeats: Repeats,
    /// The last line that was shown.
    line: String,
}

static PUBLISHED: OnceLock<Arc<Limits>> = OnceLock::new();

impl Limits {
    /// Makes these the limits of the process.
    pub(crate) fn publish(self: Arc<Self>) {
        // Set once: there is one global subscriber in a process.
        let _ = PUBLISHED.set(self);
    }

    pub(crate) fn published() -> Option<&'static Arc<Self>> {
        PUBLISHED.get()
    }

    fn admit(&self, place: &Identifier, now: Instant) -> Verdict {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(place.clone()).or_default();
        // A window that is over is told by the line that begins the next.
        match place.repeats.settle(now, false) {
            Some(counted) => {
                place.repeats.admit(now);
                Verdict::ShowWith(counted)
            }
            None => place.repeats.admit(now),
        }
    }

    fn keep(&self, place: &Identifier, line: &str) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get_mut(place) {
            line.clone_into(&mut place.line);
        }
    }

    /// Says what was counted and not shown, where the time for that has come.
    pub(crate) fn report(&self, at_once: bool, say: &mut dyn FnMut(&str)) {
        let now = clock::now();
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for place in places.values_mut() {
            if let Some(counted) = place.repeats.settle(now, at_once) {
                say(&format!("{} ({counted})\n", place.line));
            }
        }
    }
}
