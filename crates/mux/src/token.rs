//! What a worker shows to be let in by a caller.

use std::fmt;

/// Length of a token's text, in bytes.
const TEXT_BYTES: usize = 32;

/// A secret of 16 random bytes that a caller gives a worker inside a request, and that the worker
/// shows in the hello of a connection that it makes to that caller. It has no text of its own in
/// messages and logs: `Debug` hides it.
#[derive(Clone, Copy)]
pub struct Token([u8; Token::BYTES]);

impl Token {
    /// Length in bytes.
    pub const BYTES: usize = 16;

    /// A token of these bytes, which must be random.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for the peer it is meant for.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Adds its text, 32 hexadecimal digits in lower case.
    pub fn write_hex(&self, text: &mut String) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 0xF)]));
        }
    }

    /// Reads its text; `None` for any other.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != TEXT_BYTES {
            return None;
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// Takes the same time wherever they differ, so that nobody finds one out byte by byte.
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
    fn its_text_comes_back_and_no_other_is_read() {
        let token = Token::from_bytes(std::array::from_fn(|at| (at * 17) as u8));
        let mut text = String::new();
        token.write_hex(&mut text);
        assert_eq!(text, "00112233445566778899aabbccddeeff");
        assert_eq!(Token::from_hex(&text), Some(token));
        for bad in ["", "00", &text[1..], &text.to_uppercase(), &text.replace('0', "g")] {
            assert_eq!(Token::from_hex(bad), None, "{bad}");
        }
        assert_eq!(Token::from_hex(&"\u{e4}".repeat(16)), None);
    }

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
