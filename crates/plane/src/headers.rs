//! Headers: small string metadata of requests and responses.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// Most entries in one block.
const MAX_ENTRIES: usize = 64;
/// Largest block in bytes, names, values and lengths together.
const MAX_BLOCK_BYTES: usize = 64 * 1024;

/// Names of headers that Sinew itself reads or writes.
pub mod header {
    /// Payload format of the body and of the items: `application/json`, ...
    pub const CONTENT_TYPE: &str = "content-type";
    /// W3C Trace Context parent.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C Trace Context vendor state.
    pub const TRACESTATE: &str = "tracestate";
    /// The request's id as logs show it.
    pub const REQUEST_ID: &str = "request-id";
    /// Where the handler of a [continued](crate::Continued) request begins. Handlers do not see it.
    pub const CONTINUE_AT: &str = "continue-at";
}

/// Names and values, in the order in which they were set.
///
/// Names are 1 to 255 bytes of lower-case ASCII letters, digits and `-`, `_`, `.`; values are
/// UTF-8 without control characters, up to 65,535 bytes. A block holds at most 64 entries and
/// 65,536 bytes. It is kept in its wire form (`u8` name length, name, `u16` big-endian value
/// length, value; repeated), so an empty block costs no allocation and decoding copies nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    block: Bytes,
}

impl Headers {
    /// Makes an empty block.
    pub const fn new() -> Self {
        Self { block: Bytes::new() }
    }

    /// Reads the wire form, strictly.
    ///
    /// # Errors
    /// [`HeadersError`] when the block is cut short, breaks a limit or holds what a name or value
    /// may not hold. A name that occurs twice is an error too.
    pub fn decode(block: Bytes) -> Result<Self, HeadersError> {
        if block.len() > MAX_BLOCK_BYTES {
            return Err(HeadersError::TooLarge);
        }
        let (mut rest, mut count) = (&block[..], 0);
        while !rest.is_empty() {
            let (name, value, tail) = split_entry(rest).ok_or(HeadersError::CutShort)?;
            check_name(name)?;
            check_value(value)?;
            // There are few, so looking at them again is cheaper than to keep a list.
            if entries(&block).take(count).any(|(earlier, _)| earlier == name) {
                return Err(HeadersError::Duplicate);
            }
            count += 1;
            if count > MAX_ENTRIES {
                return Err(HeadersError::TooMany);
            }
            rest = tail;
        }
        Ok(Self { block })
    }

    /// The wire form.
    pub fn as_block(&self) -> &Bytes {
        &self.block
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// The value of a name. The cost grows with the number of entries, at most 64.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = entries(&self.block).find(|(key, _)| *key == name.as_bytes())?;
        Some(text(value))
    }

    /// All entries in the order in which they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        entries(&self.block).map(|(name, value)| (text(name), text(value)))
    }

    /// The names of headers that prove the identity of a caller: `authorization`,
    /// `proxy-authorization` and `cookie`. A router forwards those of a received request only if it
    /// is configured to do so.
    pub const CREDENTIALS: [&'static str; 3] = ["authorization", "proxy-authorization", "cookie"];

    /// The same headers without those names. Clones the block if it has none of them.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        if !self.iter().any(|(name, _)| names.contains(&name)) {
            return self.clone();
        }
        let mut block = BytesMut::with_capacity(self.block.len());
        for (name, value) in self.iter().filter(|(name, _)| !names.contains(name)) {
            put_entry(&mut block, name, value);
        }
        Self { block: block.freeze() }
    }

    /// Sets the value of a name, in place of an earlier value.
    ///
    /// # Errors
    /// [`HeadersError`] when the name, the value or the resulting block breaks a limit; the
    /// block is then unchanged.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), HeadersError> {
        check_name(name.as_bytes())?;
        check_value(value.as_bytes())?;
        let mut block = BytesMut::with_capacity(self.block.len() + name.len() + value.len() + 3);
        let mut entries = 1;
        for (key, old) in self.iter().filter(|(key, _)| *key != name) {
            put_entry(&mut block, key, old);
            entries += 1;
        }
        if entries > MAX_ENTRIES {
            return Err(HeadersError::TooMany);
        }
        put_entry(&mut block, name, value);
        if block.len() > MAX_BLOCK_BYTES {
            return Err(HeadersError::TooLarge);
        }
        self.block = block.freeze();
        Ok(())
    }
}

/// Names and values as they stand in a block, up to where it breaks off.
fn entries(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let (name, value, tail) = split_entry(rest)?;
        rest = tail;
        Some((name, value))
    })
}

/// A name or a value as text: decode and insert admit nothing but UTF-8, so the default is never
/// taken.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn put_entry(block: &mut BytesMut, name: &str, value: &str) {
    // check_name and check_value bound both lengths, so neither cast can cut.
    block.put_u8(name.len() as u8);
    block.put_slice(name.as_bytes());
    block.put_u16(value.len() as u16);
    block.put_slice(value.as_bytes());
}

fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
    let (value_len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*value_len)))?;
    Some((name, value, rest))
}

fn check_name(name: &[u8]) -> Result<(), HeadersError> {
    let is_name_byte =
        |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 255 || !name.iter().all(is_name_byte) {
        return Err(HeadersError::InvalidName);
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), HeadersError> {
    if value.len() > usize::from(u16::MAX) {
        return Err(HeadersError::TooLarge);
    }
    // What almost every value is, and quickly seen.
    if value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    match std::str::from_utf8(value) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(()),
        _ => Err(HeadersError::InvalidValue),
    }
}

// Values may be tokens: only names are shown.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// Why a header or a block of headers is not valid. The text contains no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadersError {
    /// The block ends in the middle of an entry.
    CutShort,
    /// More than 64 entries.
    TooMany,
    /// A value over 65,535 bytes, or a block over 65,536.
    TooLarge,
    /// A name that is empty, too long or not lower-case ASCII.
    InvalidName,
    /// A value that is not UTF-8 or holds control characters.
    InvalidValue,
    /// The same name twice.
    Duplicate,
}

impl fmt::Display for HeadersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CutShort => "the header block ends in the middle of an entry",
            Self::TooMany => "more than 64 headers",
            Self::TooLarge => "headers over 65,536 bytes",
            Self::InvalidName => {
                "a header name must be 1 to 255 lower-case ASCII letters, digits, '-', '_' or '.'"
            }
            Self::InvalidValue => "a header value must be UTF-8 without control characters",
            Self::Duplicate => "a header name stands twice",
        })
    }
}

impl std::error::Error for HeadersError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn insert_replaces_and_keeps_the_rest() {
        let mut headers = Headers::new();
        headers.insert("a", "1").unwrap();
        headers.insert("b", "2").unwrap();
        headers.insert("a", "3").unwrap();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("b", "2"), ("a", "3")]);
        assert_eq!(Headers::decode(headers.as_block().clone()).unwrap(), headers);
    }

    #[test]
    fn names_that_are_left_out_leave_the_rest() {
        let mut headers = Headers::new();
        for (name, value) in [("a", "1"), ("cookie", "2"), ("b", "3")] {
            headers.insert(name, value).unwrap();
        }
        let left = headers.without(&Headers::CREDENTIALS);
        assert_eq!(left.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!(Headers::decode(left.as_block().clone()).unwrap(), left);
        assert_eq!(left.without(&Headers::CREDENTIALS), left);
    }

    #[test]
    fn limits_hold_and_leave_the_block_alone() {
        let mut headers = Headers::new();
        for n in 0..64 {
            headers.insert(&format!("h{n}"), "v").unwrap();
        }
        let before = headers.clone();
        assert_eq!(headers.insert("one-more", "v"), Err(HeadersError::TooMany));
        assert_eq!(headers.insert("Upper", "v"), Err(HeadersError::InvalidName));
        assert_eq!(headers.insert("", "v"), Err(HeadersError::InvalidName));
        assert_eq!(headers.insert("h0", "a\r\nb"), Err(HeadersError::InvalidValue));
        assert_eq!(headers.insert("h0", &"x".repeat(65_536)), Err(HeadersError::TooLarge));
        assert_eq!(headers, before);
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        let block = Bytes::from_static(b"\x01a\x00\x011\x01a\x00\x012");
        assert_eq!(Headers::decode(block), Err(HeadersError::Duplicate));
    }

    #[test]
    fn debug_shows_names_only() {
        let mut headers = Headers::new();
        headers.insert("authorization", "secret-token").unwrap();
        assert_eq!(format!("{headers:?}"), "{\"authorization\"}");
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(headers) = Headers::decode(bytes.into()) {
                let again = Headers::decode(headers.as_block().clone());
                prop_assert_eq!(again, Ok(headers));
            }
        }

        #[test]
        fn entries_round_trip(entries in prop::collection::btree_map("[a-z0-9._-]{1,20}", "[ -~]{0,40}", 0..20)) {
            let mut headers = Headers::new();
            for (name, value) in &entries {
                headers.insert(name, value).unwrap();
            }
            let decoded = Headers::decode(headers.as_block().clone()).unwrap();
            for (name, value) in &entries {
                prop_assert_eq!(decoded.get(name), Some(value.as_str()));
            }
            prop_assert_eq!(decoded.iter().count(), entries.len());
        }
    }
}
