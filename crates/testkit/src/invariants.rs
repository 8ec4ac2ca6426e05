//! Checks what was seen of one stream at both ends against the invariants of a stream.
//!
//! - **I1**: exactly one end, nothing after it.
//! - **I2**: the consumer's items equal the producer's prefix: no gap, no double, no swap.
//! - **I3**: complete, failed, cancelled and truncated are told apart.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use sinew_plane::{Code, Fault, Outcome, Terminal};

/// One step of a producer. Put down before it is taken, so that no consumer is ever ahead of it.
#[derive(Debug, Clone)]
pub enum Produced {
    /// It sends an item.
    Item(Bytes),
    /// It declares the end.
    End(Terminal),
}

/// One step of a consumer.
#[derive(Debug, Clone)]
pub enum Observed {
    /// It got an item.
    Item(Bytes),
    /// It was told the end.
    End(Outcome),
}

/// The history of a producer, written from its task and read from the case. Clones are handles
/// to the same record.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<Vec<Produced>>>);

impl Record {
    /// Notes that an item is about to be sent, and returns it.
    pub fn item(&self, item: Bytes) -> Bytes {
        self.push(Produced::Item(item.clone()));
        item
    }

    /// Notes that an end is about to be declared.
    pub fn end(&self, terminal: Terminal) {
        self.push(Produced::End(terminal));
    }

    fn push(&self, step: Produced) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    /// The history so far.
    pub fn steps(&self) -> Vec<Produced> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Which end of a stream a violation was seen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Producer,
    Consumer,
}

/// What a history violates. `at` is the number of the item at the consumer, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    NoEnd,
    SecondEnd(Side),
    ItemAfterEnd(Side),
    Missing { at: usize },
    Doubled { at: usize },
    Swapped { at: usize },
    Foreign { at: usize },
    Miscounted { told: u64, observed: usize },
    Misreported { declared: Option<String>, told: String },
}

impl Violation {
    /// The invariant: `I1`, `I2` or `I3`.
    pub fn invariant(&self) -> &'static str {
        match self.0 {
            Kind::NoEnd | Kind::SecondEnd(_) | Kind::ItemAfterEnd(_) => "I1",
            Kind::Missing { .. }
            | Kind::Doubled { .. }
            | Kind::Swapped { .. }
            | Kind::Foreign { .. } => "I2",
            Kind::Miscounted { .. } | Kind::Misreported { .. } => "I3",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.invariant())?;
        let whose = |side: &Side| match side {
            Side::Producer => "producer",
            Side::Consumer => "consumer",
        };
        match &self.0 {
            Kind::NoEnd => f.write_str("the consumer was not told an end"),
            Kind::SecondEnd(side) => write!(f, "a second end at the {}", whose(side)),
            Kind::ItemAfterEnd(side) => write!(f, "an item after the end at the {}", whose(side)),
            Kind::Missing { at } => write!(f, "item {at} is missing"),
            Kind::Doubled { at } => write!(f, "item {at} repeats the one before it"),
            Kind::Swapped { at } => write!(f, "items {at} and {} are swapped", at + 1),
            Kind::Foreign { at } => write!(f, "item {at} is not what was sent"),
            Kind::Miscounted { told, observed } => {
                write!(f, "the end counts {told} items, {observed} came")
            }
            Kind::Misreported { declared, told } => match declared {
                Some(declared) => write!(f, "declared {declared}, told {told}"),
                None => write!(f, "declared no end, told {told}"),
            },
        }
    }
}

impl std::error::Error for Violation {}

/// Checks one stream whose consumer has read it to the end. If items are equal, the error for a
/// violation of I2 may name another kind than the one that happened, for example a missing item
/// instead of a swap. It reports a violation only if there is one.
///
/// # Errors
/// The first violation, by invariant.
pub fn check(produced: &[Produced], observed: &[Observed]) -> Result<(), Violation> {
    let (sent, terminal) = split(produced, Side::Producer, |step| match step {
        Produced::Item(item) => Ok(item),
        Produced::End(terminal) => Err(terminal),
    })?;
    let (came, outcome) = split(observed, Side::Consumer, |step| match step {
        Observed::Item(item) => Ok(item),
        Observed::End(outcome) => Err(outcome),
    })?;
    let outcome = outcome.ok_or(Violation(Kind::NoEnd))?;
    check_items(&sent, &came, terminal, outcome).map_err(Violation)?;
    check_end(terminal, outcome, came.len()).map_err(Violation)
}

/// I1: items, then at most one end and nothing after it.
fn split<'a, S, E>(
    steps: &'a [S],
    side: Side,
    sort: impl Fn(&'a S) -> Result<&'a Bytes, &'a E>,
) -> Result<(Vec<&'a Bytes>, Option<&'a E>), Violation> {
    let (mut items, mut end) = (Vec::new(), None);
    for step in steps {
        match (sort(step), end) {
            (Ok(item), None) => items.push(item),
            (Ok(_), Some(_)) => return Err(Violation(Kind::ItemAfterEnd(side))),
            (Err(told), None) => end = Some(told),
            (Err(_), Some(_)) => return Err(Violation(Kind::SecondEnd(side))),
        }
    }
    Ok((items, end))
}

/// I2: a prefix, and all of it when both sides call it complete.
fn check_items(
    sent: &[&Bytes],
    came: &[&Bytes],
    terminal: Option<&Terminal>,
    outcome: &Outcome,
) -> Result<(), Kind> {
    if let Some(at) = (0..came.len()).find(|at| sent.get(*at) != Some(&came[*at])) {
        let item = came[at];
        return Err(if sent.get(at + 1) == Some(&item) {
            let swapped = came.get(at + 1) == sent.get(at);
            if swapped { Kind::Swapped { at } } else { Kind::Missing { at } }
        } else if at > 0 && sent[at - 1] == item {
            Kind::Doubled { at }
        } else if sent.iter().skip(at).any(|later| *later == item) {
            Kind::Missing { at }
        } else {
            Kind::Foreign { at }
        });
    }
    let complete =
        matches!((terminal, outcome), (Some(Terminal::Complete { .. }), Outcome::Complete { .. }));
    if complete && came.len() < sent.len() {
        return Err(Kind::Missing { at: came.len() });
    }
    Ok(())
}

/// I3: what the consumer was told follows from what the producer declared, or is a loss.
fn check_end(terminal: Option<&Terminal>, outcome: &Outcome, came: usize) -> Result<(), Kind> {
    if let Outcome::Complete { items: told } | Outcome::Truncated { received: told } = outcome
        && *told != came as u64
    {
        return Err(Kind::Miscounted { told: *told, observed: came });
    }
    let follows = match (outcome, terminal) {
        (Outcome::Complete { .. }, Some(Terminal::Complete { .. })) => true,
        (Outcome::Failed { error: told }, Some(Terminal::Failed { error })) => {
            told.code() == error.code()
        }
        // The sink declares this itself when its producer goes away.
        (Outcome::Failed { error }, None) if error.code() == Code::HandlerGone => true,
        // Lost before anything came. Later it has to be called truncated.
        (Outcome::Failed { error }, _) => error.fault() == Fault::Transport && came == 0,
        (Outcome::Cancelled { reason: told }, Some(Terminal::Cancelled { reason })) => {
            told == reason
        }
        // A sink dropped after a cancel.
        (Outcome::Cancelled { .. }, None) => true,
        // The way back can be lost at any time, also under a declared end.
        (Outcome::Truncated { .. }, _) => true,
        _ => false,
    };
    if follows {
        return Ok(());
    }
    let declared = terminal.map(|terminal| format!("{terminal:?}"));
    Err(Kind::Misreported { declared, told: format!("{outcome:?}") })
}

#[cfg(test)]
mod tests;
