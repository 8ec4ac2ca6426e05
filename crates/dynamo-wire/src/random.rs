//! Random bytes for secrets.

use std::cell::RefCell;

/// Bytes that are given out at once, in all.
const PIECE_BYTES: usize = 16;

/// Random bytes that a thread keeps, for 64 subjects: a system call for each of them was seen in
/// the profile of short responses.
const POOL_BYTES: usize = 64 * PIECE_BYTES;

thread_local! {
    static POOL: RefCell<RandomPool> = const { RefCell::new(RandomPool::EMPTY) };
}

/// Returns 16 bytes of the system's random generator, enough for a subject or a token. No bytes are
/// returned twice.
///
/// # Panics
/// The system returns no random bytes.
pub fn random_bytes() -> [u8; PIECE_BYTES] {
    POOL.with_borrow_mut(RandomPool::take)
}

/// Random bytes that are used once.
struct RandomPool {
    bytes: [u8; POOL_BYTES],
    used: usize,
}

impl RandomPool {
    const EMPTY: Self = Self { bytes: [0; POOL_BYTES], used: POOL_BYTES };

    fn take(&mut self) -> [u8; PIECE_BYTES] {
        if self.used == POOL_BYTES {
            #[expect(clippy::expect_used, reason = "no subject may be one that can be guessed")]
            getrandom::fill(&mut self.bytes).expect("the system gives out random bytes");
            self.used = 0;
        }
        let mut taken = [0; PIECE_BYTES];
        // They are a key from here on, so no copy is left behind.
        taken.swap_with_slice(&mut self.bytes[self.used..self.used + PIECE_BYTES]);
        self.used += PIECE_BYTES;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_out_is_not_kept() {
        let mut pool = RandomPool::EMPTY;
        assert_ne!(pool.take(), [0; PIECE_BYTES]);
        assert_eq!(pool.bytes[..PIECE_BYTES], [0; PIECE_BYTES]);
        assert_ne!(pool.bytes[PIECE_BYTES..2 * PIECE_BYTES], [0; PIECE_BYTES]);
    }
}
