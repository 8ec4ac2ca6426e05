//! What is asked for, and what each item holds: both ends compute it from a seed.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sinew_testkit::payload::patterned;

/// One stream, as its caller asks for it: the body of the request, in JSON.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// Which stream of the run.
    pub(crate) stream: u64,
    /// The seed of the run.
    pub(crate) seed: u64,
    /// How many items.
    pub(crate) items: u64,
    /// Microseconds from one item to the next.
    pub(crate) pace_micros: u64,
}

/// Bytes of an item's number, which stands in front.
const NUMBER_BYTES: usize = 8;

/// Content of an item, without its number: from 0 bytes to this many.
const MOST_BYTES: u64 = 160;

/// What an item has on a connection on average, with the header of its frame.
pub(crate) const MEAN_FRAME_BYTES: u64 = 8 + NUMBER_BYTES as u64 + MOST_BYTES / 2;

impl Ask {
    pub(crate) fn pace(&self) -> Duration {
        Duration::from_micros(self.pace_micros)
    }

    /// The item of a number: the number, and content that no other item of any stream has.
    pub(crate) fn item(&self, number: u64) -> Bytes {
        let own = mixed(self.seed ^ mixed(self.stream) ^ number.rotate_left(32));
        let length = own % (MOST_BYTES + 1);
        let mut item = Vec::with_capacity(NUMBER_BYTES + length as usize);
        item.extend_from_slice(&number.to_be_bytes());
        item.extend_from_slice(&patterned(length as usize, own & 0xff_ffff));
        item.into()
    }
}

/// The number that an item says it has.
pub(crate) fn number(item: &[u8]) -> Option<u64> {
    let bytes = item.get(..NUMBER_BYTES)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// Spreads a number over all bits: the last step of SplitMix64.
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_differ_by_seed_and_stream_and_number_and_have_the_mean_length() {
        let ask = |seed, stream| Ask { stream, seed, items: 0, pace_micros: 0 };
        let all = [ask(1, 0), ask(1, 1), ask(2, 0)].map(|ask| {
            let items = (0..5_000).map(move |number| ask.item(number));
            let items: Vec<_> = items.collect();
            assert!((0..).zip(&items).all(|(at, item)| number(item) == Some(at)));
            items
        });
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
        let bytes: usize = all[0].iter().map(|item| item.len() + 8).sum();
        let mean = bytes as u64 / 5_000;
        assert!(mean.abs_diff(MEAN_FRAME_BYTES) < 5, "{mean}");
        assert_eq!(number(b"short"), None);
    }
}
