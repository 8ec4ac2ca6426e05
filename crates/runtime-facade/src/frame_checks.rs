//! Whether frames carry checksums, and whether they are verified.

use std::{fmt, str::FromStr};

use sinew_codec::ChecksumMode;

/// Whether frames carry checksums, and whether this process verifies them. The checksum is an XXH3
/// after each frame of the mux, and in the prefix of each of Dynamo's two-part frames, which carry
/// response items. Dynamo's request frames have no field for one.
///
/// A checksum detects damage and does not protect against forgery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameChecks {
    /// This process writes no checksums, except to a mux peer that asks for them, and ignores those
    /// of two-part frames.
    Off,
    /// This process writes checksums and does not verify those that arrive.
    Write,
    /// This process writes checksums and verifies those that arrive. A damaged frame ends its
    /// connection.
    Verify,
}

impl FrameChecks {
    pub(crate) fn mode(self) -> ChecksumMode {
        match self {
            Self::Off => ChecksumMode::Off,
            Self::Write => ChecksumMode::Write,
            Self::Verify => ChecksumMode::Verify,
        }
    }
}

impl FromStr for FrameChecks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "off" => Ok(Self::Off),
            "write" => Ok(Self::Write),
            "verify" => Ok(Self::Verify),
            _ => Err("must be off, write or verify".to_owned()),
        }
    }
}

impl fmt::Display for FrameChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Write => "write",
            Self::Verify => "verify",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        for checks in [FrameChecks::Off, FrameChecks::Write, FrameChecks::Verify] {
            assert_eq!(checks.to_string().parse(), Ok(checks));
        }
        assert!("on".parse::<FrameChecks>().is_err());
    }
}
