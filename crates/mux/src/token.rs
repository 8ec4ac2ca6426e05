//! The token by which a worker that dials back identifies itself to the caller.

use std::fmt;

/// A secret of 16 random bytes that a caller gives a worker inside a request, and that the worker
/// shows in the hello of a connection that it makes to that caller. `Debug` hides it, so it does
/// not appear in messages and logs.
#[derive(Clone, Copy)]
pub struct Token([u8; Token::BYTES]);

impl Token {
    /// Length in bytes.
    pub const BYTES: usize = 16;

    /// Makes a token of these bytes, which must be random.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for the peer it is meant for.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// Compares in constant time, so that an attacker cannot find a token byte by byte.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(other.0);
        let differ = pairs.fold(0, |differ, (a, b)| std::hint::black_box(differ | (a ^ b)));
        std::hint::black_box(differ) == 0
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_differ_in_a_bit_are_others_and_none_is_shown() {
        let token = Token::from_bytes([0x5a; Token::BYTES]);
        for at in 0..Token::BYTES {
            for bit in 0..8 {
                let mut bytes = *token.as_bytes();
                bytes[at] ^= 1 << bit;
                assert_ne!(Token::from_bytes(bytes), token);
            }
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
