//! Numbers that name things: instances, their incarnations, processes, streams.

use std::fmt;

use crate::random;

/// The id of an instance, which is one running server of an endpoint.
///
/// Shown as lower-case hexadecimal, as discovery keys spell it. `Direct(i64)` of the design
/// documents maps bit for bit: `InstanceId::from(-1_i64)` is `ffffffffffffffff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub u64);

impl InstanceId {
    /// A random id, unique with the odds of 64 random bits.
    pub fn random() -> Self {
        Self(random::non_zero_u64())
    }

    /// Reads the hexadecimal form that [`Display`](fmt::Display) writes.
    pub fn from_hex(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl From<i64> for InstanceId {
    fn from(id: i64) -> Self {
        Self(u64::from_ne_bytes(id.to_ne_bytes()))
    }
}

impl From<u64> for InstanceId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The incarnation of an instance. Two processes that register one [`InstanceId`] have different
/// incarnations, and so have two registrations of one process. Random, not ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// A random incarnation.
    pub fn random() -> Self {
        Self(random::non_zero_u64())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The id of one run of a Sinew process. Each start of the process draws a new random id; it is not
/// the process number of the operating system.
///
/// A process sends its id in the hello of each connection and publishes it in its discovery
/// records. A caller therefore notices when another process answers at an address, and attaches a
/// stream only to the process that holds the stream.
/// Everybody may read it, so it proves nothing.
///
/// ```
/// use sinew_plane::ProcessId;
///
/// let own = ProcessId::random();
/// assert!(own.is_known() && !ProcessId::UNKNOWN.is_known());
/// assert_eq!(ProcessId::from_hex(&own.to_string()), Some(own));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub u64);

impl ProcessId {
    /// The id that an anonymous process shows. It is not compared with the id in discovery, and no
    /// stream of such a process outlives its connection.
    pub const UNKNOWN: Self = Self(0);

    /// A random id, unique with the odds of 64 random bits, and never [`UNKNOWN`](Self::UNKNOWN).
    pub fn random() -> Self {
        Self(random::non_zero_u64())
    }

    /// True unless it is [`UNKNOWN`](Self::UNKNOWN).
    pub const fn is_known(self) -> bool {
        self.0 != 0
    }

    /// Reads the hexadecimal form that [`Display`](fmt::Display) writes. `None` for another text.
    pub fn from_hex(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl Default for ProcessId {
    /// [`UNKNOWN`](Self::UNKNOWN).
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The id of a logical response stream: 128 random bits that the caller chooses. It stays the same
/// when the stream moves to another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub u128);

impl StreamId {
    /// A random id.
    pub fn random() -> Self {
        Self(random::non_zero_u128())
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_ids_keep_their_bits() {
        assert_eq!(InstanceId::from(-1_i64), InstanceId(u64::MAX));
        assert_eq!(InstanceId::from(7_i64).to_string(), "7");
    }

    #[test]
    fn hex_round_trips() {
        let id = InstanceId(0x5315_a1fc_98a8_5605);
        assert_eq!(id.to_string(), "5315a1fc98a85605");
        assert_eq!(InstanceId::from_hex(&id.to_string()), Some(id));
        assert_eq!(InstanceId::from_hex("not hex"), None);
    }
}
