//! Requests that were accepted recently, so that a request that arrives twice runs once.

use std::collections::{HashSet, VecDeque};

use sinew_codec::checksum_of;

/// Requests that are remembered, in about 100 KiB. A broker or a proxy that delivers a request
/// twice does so soon; behind that, its caller refuses the second response by itself.
const REMEMBERED: usize = 2_048;

/// Requests by where their responses are to go. That names one response of one caller, once, for
/// stock Dynamo callers too. The id of a request does not: they send it again to repeat a request
/// whose first try they have lost.
#[derive(Default)]
pub(super) struct Delivered {
    known: HashSet<u128>,
    order: VecDeque<u128>,
}

impl Delivered {
    /// False when a request with this connection info was taken lately.
    pub(super) fn is_new(&mut self, connection_info: &str) -> bool {
        let text = connection_info.as_bytes();
        let key =
            u128::from(checksum_of(text, b"high")) << 64 | u128::from(checksum_of(text, b"low"));
        if !self.known.insert(key) {
            return false;
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(key);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_until_enough_others_have_come() {
        let mut delivered = Delivered::default();
        assert!(delivered.is_new("first") && !delivered.is_new("first"));
        for number in 1..REMEMBERED {
            assert!(delivered.is_new(&number.to_string()));
        }
        assert!(!delivered.is_new("first"));
        assert!(delivered.is_new("one more") && delivered.is_new("first"));
        assert!(delivered.known.len() <= REMEMBERED);
    }
}
