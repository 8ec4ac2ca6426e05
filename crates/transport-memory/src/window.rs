//! The arithmetic of a flow-control window.

use sinew_plane::Window;

/// What a producer may still send, and what its consumer holds but has not given back.
///
/// 64-bit signed numbers: credit starts at most at `u32::MAX` and is charged for one message
/// more than it covers, which no message limit can push below `i64::MIN`.
#[derive(Debug)]
pub(crate) struct Credit {
    items: i64,
    bytes: i64,
    unacknowledged: Unacknowledged,
}

/// Items that are charged and count as consumed with the next [`Credit::acknowledge`].
#[derive(Debug, Default, Clone, Copy)]
struct Unacknowledged {
    items: i64,
    bytes: i64,
}

impl Credit {
    /// Full credit. A window below 1 item or 1 byte counts as 1, since it would never let
    /// anything through.
    pub(crate) fn new(window: Window) -> Self {
        Self {
            items: i64::from(window.items.max(1)),
            bytes: i64::from(window.bytes.max(1)),
            unacknowledged: Unacknowledged::default(),
        }
    }

    /// True while one more item may start.
    pub(crate) fn is_positive(&self) -> bool {
        self.items > 0 && self.bytes > 0
    }

    /// Charges an item in full.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.items -= 1;
        self.bytes -= signed(bytes);
    }

    /// Notes that the consumer has taken these items in hand.
    pub(crate) fn deliver(&mut self, items: usize, bytes: usize) {
        self.unacknowledged.items += signed(items);
        self.unacknowledged.bytes += signed(bytes);
    }

    /// Gives back what the consumer has in hand: it came back for more, so it is done with it.
    pub(crate) fn acknowledge(&mut self) {
        let unacknowledged = std::mem::take(&mut self.unacknowledged);
        self.items += unacknowledged.items;
        self.bytes += unacknowledged.bytes;
    }
}

/// Lengths of memory that exists never exceed `isize::MAX`, so the default is never taken.
fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sendable(credit: &mut Credit, bytes: usize) -> usize {
        let mut sent = 0;
        while credit.is_positive() {
            credit.charge(bytes);
            sent += 1;
        }
        sent
    }

    #[test]
    fn items_run_out_exactly() {
        let mut credit = Credit::new(Window { items: 3, bytes: 1000 });
        assert_eq!(sendable(&mut credit, 1), 3);
    }

    #[test]
    fn the_item_that_overdraws_the_bytes_is_the_last() {
        let mut credit = Credit::new(Window { items: 100, bytes: 1000 });
        assert_eq!(sendable(&mut credit, 300), 4, "300, 600, 900, then one over the edge");
        let mut exact = Credit::new(Window { items: 100, bytes: 900 });
        assert_eq!(sendable(&mut exact, 300), 3, "a credit of zero is not positive");
    }

    #[test]
    fn an_item_larger_than_the_window_passes_alone() {
        let mut credit = Credit::new(Window { items: 100, bytes: 10 });
        assert_eq!(sendable(&mut credit, 1 << 20), 1);
        credit.deliver(1, 1 << 20);
        credit.acknowledge();
        assert_eq!(sendable(&mut credit, 1 << 20), 1);
    }

    #[test]
    fn empty_items_cost_an_item_and_no_bytes() {
        let mut credit = Credit::new(Window { items: 5, bytes: 1 });
        assert_eq!(sendable(&mut credit, 0), 5);
    }

    #[test]
    fn only_what_was_lent_comes_back_and_only_once() {
        let mut credit = Credit::new(Window { items: 4, bytes: 1000 });
        assert_eq!(sendable(&mut credit, 10), 4);
        credit.deliver(2, 20);
        assert!(!credit.is_positive(), "in hand is not consumed");
        credit.acknowledge();
        credit.acknowledge();
        assert_eq!(sendable(&mut credit, 10), 2);
    }

    #[test]
    fn a_window_of_nothing_counts_as_one() {
        let mut credit = Credit::new(Window { items: 0, bytes: 0 });
        assert_eq!(sendable(&mut credit, 7), 1);
    }
}
