//! Contents that give away what was cut, moved or mixed up.

use bytes::Bytes;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The lengths at which framing, chunking and buffers like to break, in bytes.
pub const LENGTHS: [usize; 7] = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB, 5 * MIB];

/// The item of a number: the number in decimal.
pub fn numbered(number: u64) -> Bytes {
    number.to_string().into()
}

/// `length` bytes in which each group of eight depends on its place and on `seed`, so that no
/// two parts of a payload, and no two payloads, look alike.
pub fn patterned(length: usize, seed: u64) -> Bytes {
    // An odd multiplier (2^64 divided by the golden ratio) spreads the place over all bytes.
    let group = |place: u64| (place ^ (seed << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(length + 8);
    let mut place = 0;
    while bytes.len() < length {
        bytes.extend_from_slice(&group(place + 1).to_le_bytes());
        place += 1;
    }
    bytes.truncate(length);
    bytes.into()
}

/// Asserts equality without printing megabytes when it fails.
///
/// # Panics
/// When the two differ, with the lengths and the first place that does.
#[track_caller]
pub fn assert_same(got: &[u8], wanted: &[u8]) {
    if got != wanted {
        let place = got.iter().zip(wanted).position(|(got, wanted)| got != wanted);
        panic!(
            "{} bytes came where {} were sent; the first that differs is {place:?}",
            got.len(),
            wanted.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_their_length_and_no_two_parts_alike() {
        for length in [0, 1, 7, 8, 9, 4096] {
            assert_eq!(patterned(length, 1).len(), length);
        }
        let bytes = patterned(1 << 20, 1);
        let mut groups: Vec<_> = bytes.chunks(8).collect();
        groups.sort_unstable();
        groups.dedup();
        assert_eq!(groups.len(), (1 << 20) / 8);
        assert_ne!(patterned(64, 1), patterned(64, 2));
    }
}
