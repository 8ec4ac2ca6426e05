//! The text of the token that a worker shows on a shared connection.

/// Length of a token in bytes.
pub const TOKEN_BYTES: usize = 16;

/// Length of its text, in bytes.
pub(crate) const TOKEN_TEXT_BYTES: usize = 2 * TOKEN_BYTES;

/// Adds its text, 32 hexadecimal digits in lower case.
pub(crate) fn write(token: &[u8; TOKEN_BYTES], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in token {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 0xF)]));
    }
}

/// Reads its text; `None` for any other.
pub(crate) fn parse(text: &str) -> Option<[u8; TOKEN_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != TOKEN_TEXT_BYTES {
        return None;
    }
    let mut bytes = [0; TOKEN_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_text_comes_back_and_no_other_is_read() {
        let token = std::array::from_fn(|at| (at * 17) as u8);
        let mut text = String::new();
        write(&token, &mut text);
        assert_eq!(text, "00112233445566778899aabbccddeeff");
        assert_eq!(parse(&text), Some(token));
        for bad in ["", "00", &text[1..], &text.to_uppercase(), &text.replace('0', "g")] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&"\u{e4}".repeat(16)), None);
    }
}
