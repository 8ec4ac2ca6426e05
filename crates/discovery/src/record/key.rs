//! Keys of records, and the file names that stand for them.

use sinew_plane::{EndpointName, InstanceId};

use crate::InstanceKey;

/// The key below the bucket: `namespace/component/endpoint/id`, the id in lower-case hexadecimal.
pub fn key(key: &InstanceKey) -> String {
    format!("{}/{}", key.endpoint, key.id)
}

/// Reads what [`key`] writes; `None` for anything else, so that no two texts mean one key.
pub fn parse_key(text: &str) -> Option<InstanceKey> {
    let (endpoint, id) = text.rsplit_once('/')?;
    let endpoint: EndpointName = endpoint.parse().ok()?;
    let parsed = InstanceId::from_hex(id)?;
    // `from_hex` also takes upper case, leading zeros and a plus sign.
    (parsed.to_string() == id).then_some(InstanceKey { endpoint, id: parsed })
}

/// The file name that stands for a key: every byte that is not an ASCII letter or digit becomes
/// `%` and two upper-case hexadecimal digits, as Dynamo writes it.
pub fn file_name(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 16);
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(byte));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            name.push('%');
            name.push(char::from(DIGITS[usize::from(byte >> 4)]));
            name.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    name
}

/// Reads what [`file_name`] writes, and also names that escape less than it does or in lower
/// case, which other languages' quoting functions produce. `None` when an escape is broken or the
/// result is not UTF-8.
pub fn key_of_file_name(name: &str) -> Option<String> {
    let mut key = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = hex_digit(rest.next()?)?;
            let low = hex_digit(rest.next()?)?;
            key.push(high << 4 | low);
        } else {
            key.push(byte);
        }
    }
    String::from_utf8(key).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    // A digit of base 16 is at most 15.
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}
