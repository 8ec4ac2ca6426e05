//! Frame integrity: xxh3-64 over header and body, chosen at run time in every build.
//!
//! It finds bit rot, broken middleboxes and framing bugs. It is not a signature: an attacker who
//! can change bytes on the wire can change the checksum too.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Whether the codec writes and verifies checksums.
///
/// On the wire a field of 0 means "absent"; Dynamo release builds always send 0. The hash of a
/// frame may itself be 0 (once in 2^64 frames): it is written as it is, which the receiver reads as
/// absent, so such a frame passes unverified instead of being refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumMode {
    /// Write 0 and verify nothing. For links that already protect integrity, such as TLS.
    Off,
    /// Write the checksum, do not verify what arrives.
    Write,
    /// Write the checksum and verify every received frame whose field is not 0.
    #[default]
    Verify,
}

impl ChecksumMode {
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Verify)
    }
}

/// The checksum of a frame: xxh3-64, seed 0, over the header bytes followed by the body bytes.
///
/// The two parts need not be adjacent in memory.
pub fn checksum_of(header: &[u8], body: &[u8]) -> u64 {
    // The one-shot form is faster for short input and needs no state block.
    match (header, body) {
        (part, []) | ([], part) => xxh3_64(part),
        _ => {
            let mut hasher = Xxh3::new();
            hasher.update(header);
            hasher.update(body);
            hasher.digest()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_parts_hash_like_one_slice() {
        let bytes: Vec<u8> = (0..2000u32).map(|n| (n * 31) as u8).collect();
        for cut in [0, 1, 16, 17, 128, 240, 241, 1024, 1999, 2000] {
            assert_eq!(checksum_of(&bytes[..cut], &bytes[cut..]), xxh3_64(&bytes), "cut {cut}");
        }
    }

    #[test]
    fn known_values_of_the_algorithm() {
        // The xxHash reference value for empty input, seed 0.
        assert_eq!(checksum_of(b"", b""), 0x2d06_8005_38d3_94c2);
    }
}
