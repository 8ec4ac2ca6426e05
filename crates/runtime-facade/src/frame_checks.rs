//! What is done with the checks that frames can carry.

use std::{fmt, str::FromStr};

use sinew_codec::ChecksumMode;

/// What is done with the checks of frames: an XXH3 behind each frame of the mux, and in the prefix
/// of Dynamo's two-part frames, in which response items travel. Request frames of Dynamo have no
/// place for one.
///
/// It finds damage, not forgery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameChecks {
    /// None is written, and those of two-part frames are not looked at. A peer of the mux may ask
    /// for them all the same.
    Off,
    /// They are written for the peer, and not looked at here.
    Write,
    /// They are written, and what arrives is verified: a damaged frame ends its connection.
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
