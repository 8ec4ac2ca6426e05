//! The chosen instance, and the rule of the choice.

use std::{cmp::Ordering, fmt};

use sinew_plane::InstanceId;

/// A chosen instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Its place in the list.
    pub index: usize,
    /// Its id.
    pub id: InstanceId,
    /// The rule of the choice.
    pub why: Why,
}

/// The rule by which an instance was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// It was the next in rotation.
    Turn,
    /// It was drawn at random.
    Lot,
    /// The caller named it.
    Named,
    /// It was the less loaded of two that were drawn. The other one is [`Loads::next`].
    LowerLoad(Loads),
    /// It was the least loaded of all. The second is [`Loads::next`].
    LowestLoad(Loads),
    /// A strategy chose it that gives only its name.
    Strategy(&'static str),
}

impl Why {
    /// The rule in a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Turn => "next in rotation",
            Self::Lot => "drawn by lot",
            Self::Named => "named by the caller",
            Self::LowerLoad(_) => "less loaded of two drawn by lot",
            Self::LowestLoad(_) => "least loaded",
            Self::Strategy(name) => name,
        }
    }
}

impl fmt::Display for Why {
    /// The rule and, for a rule by load, the loads that were compared.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self {
            Self::LowerLoad(loads) | Self::LowestLoad(loads) => write!(f, ": {loads}"),
            Self::Turn | Self::Lot | Self::Named | Self::Strategy(_) => Ok(()),
        }
    }
}

/// The loads that decided a choice, before the request itself was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Loads {
    /// The load of the chosen instance.
    pub chosen: InstanceLoad,
    /// The load of the next best instance; `None` if there was no other.
    pub next: Option<InstanceLoad>,
}

impl fmt::Display for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.next {
            Some(next) => write!(f, "{} against {next}", self.chosen),
            None => write!(f, "{}, the only one", self.chosen),
        }
    }
}

/// How busy an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceLoad {
    /// The instance.
    pub instance: InstanceId,
    /// Requests of this router that it has in flight.
    pub in_flight: u32,
    /// Its weight, at least 1.
    pub weight: u32,
    /// The value of the strategy's own [`Load`](crate::Load), if it has one.
    pub measured: Option<Measure>,
}

/// The value of a [`Load`](crate::Load) for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Measure(u64);

impl Measure {
    /// Makes a measure from a value.
    pub fn new(value: f64) -> Self {
        Self(value.to_bits())
    }

    /// The value.
    pub fn value(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl InstanceLoad {
    /// Compares two loads: by their measured values, or else by requests per weight.
    pub fn compare(&self, other: &Self) -> Ordering {
        if let (Some(one), Some(other)) = (self.measured, other.measured) {
            return one.value().total_cmp(&other.value());
        }
        // Multiplied out, so that nothing is rounded: a / v < b / w as a * w < b * v.
        let product = |load: &Self, weight: u32| u64::from(load.in_flight) * u64::from(weight);
        product(self, other.weight).cmp(&product(other, self.weight))
    }
}

impl fmt::Display for InstanceLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(measured) = self.measured {
            return write!(f, "{} with a load of {}", self.instance, measured.value());
        }
        write!(f, "{} with {} in flight", self.instance, self.in_flight)?;
        match self.weight {
            1 => Ok(()),
            weight => write!(f, " at weight {weight}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(instance: u64, in_flight: u32, weight: u32) -> InstanceLoad {
        InstanceLoad { instance: InstanceId(instance), in_flight, weight, measured: None }
    }

    #[test]
    fn loads_compare_relative_to_weights() {
        let check = |one: (u32, u32), other: (u32, u32), expected| {
            let (one, other) = (load(1, one.0, one.1), load(2, other.0, other.1));
            assert_eq!(one.compare(&other), expected, "{one} and {other}");
            assert_eq!(other.compare(&one), expected.reverse(), "{other} and {one}");
        };
        check((0, 1), (0, 1000), Ordering::Equal);
        check((3, 1), (4, 1), Ordering::Less);
        check((3, 1), (6, 2), Ordering::Equal);
        check((3, 1), (7, 2), Ordering::Less);
        check((1, 3), (333_333, 1_000_000), Ordering::Greater);
        check((u32::MAX, u32::MAX), (u32::MAX - 1, u32::MAX), Ordering::Greater);
    }

    #[test]
    fn a_choice_by_load_tells_the_loads() {
        let loads = Loads { chosen: load(0xbeef, 3, 1), next: Some(load(2, 11, 2)) };
        assert_eq!(
            Why::LowerLoad(loads).to_string(),
            "less loaded of two drawn by lot: beef with 3 in flight against 2 with 11 in flight at \
             weight 2"
        );
        let alone = Loads { next: None, ..loads };
        assert_eq!(
            Why::LowestLoad(alone).to_string(),
            "least loaded: beef with 3 in flight, the only one"
        );
        let measured = InstanceLoad { measured: Some(Measure::new(2.5)), ..alone.chosen };
        assert_eq!(measured.to_string(), "beef with a load of 2.5");
        let more = InstanceLoad { in_flight: 0, measured: Some(Measure::new(3.0)), ..measured };
        assert!(measured.compare(&more).is_lt(), "what is in flight does not count then");
        assert_eq!(Why::Turn.to_string(), "next in rotation");
    }
}
