//! Converts between Sinew's headers and NATS headers.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use sinew_plane::{Code, Error, Headers};

/// What a header block holds besides its entries: `NATS/1.0`, and two line ends.
const BLOCK_OVERHEAD_BYTES: usize = 12;
/// What an entry holds besides name and value: `: `, and a line end.
const ENTRY_OVERHEAD_BYTES: usize = 4;

/// Turns headers into those of NATS. Also says how many bytes they take on the wire.
pub(crate) fn to_nats(headers: &Headers) -> Result<(HeaderMap, usize), Error> {
    let mut block = (HeaderMap::new(), 0);
    for (name, value) in headers.iter() {
        add(&mut block, name, value)?;
    }
    Ok(block)
}

/// Adds one that is not among them yet.
pub(crate) fn add(block: &mut (HeaderMap, usize), name: &str, value: &str) -> Result<(), Error> {
    let (map, size) = block;
    // Parsed and never converted with `into`, which panics on a line end.
    let parsed = name.parse::<HeaderName>().ok().zip(value.parse::<HeaderValue>().ok());
    let Some((parsed_name, parsed_value)) = parsed else {
        let message = format!("the header {name:?} cannot travel over NATS");
        return Err(Error::new(Code::InvalidPayload, message));
    };
    if *size == 0 {
        *size = BLOCK_OVERHEAD_BYTES;
    }
    *size += name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
    map.insert(parsed_name, parsed_value);
    Ok(())
}

/// Reads the headers of a message. What [`Headers`] cannot hold is left out, and so is a name
/// that stands twice: which value counts would be a guess.
pub(crate) fn from_nats(map: Option<&HeaderMap>) -> Headers {
    let mut headers = Headers::new();
    for (name, values) in map.into_iter().flat_map(HeaderMap::iter) {
        if let [value] = values.as_slice() {
            let name: &str = name.as_ref();
            let _ = headers.insert(name, value.as_str());
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_travel_both_ways(entries in prop::collection::btree_map("[a-z0-9._-]{1,20}", "[ -~\u{e4}]{0,40}", 0..20)) {
            let mut headers = Headers::new();
            for (name, value) in &entries {
                headers.insert(name, value).unwrap();
            }
            let (map, size) = to_nats(&headers).unwrap();
            let wire: usize = entries.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
            prop_assert_eq!(size, if entries.is_empty() { 0 } else { wire + 12 });
            let back = from_nats(Some(&map));
            for (name, value) in &entries {
                prop_assert_eq!(back.get(name), Some(value.as_str()));
            }
            prop_assert_eq!(back.iter().count(), entries.len());
        }
    }

    #[test]
    fn what_cannot_be_held_is_left_out() {
        let mut map = HeaderMap::new();
        map.insert("request-id", "7");
        map.insert("Nats-Msg-Id", "upper case");
        map.append("twice", "1");
        map.append("twice", "2");
        map.insert("tab", "a\tb");
        let headers = from_nats(Some(&map));
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("request-id", "7")]);
        assert!(from_nats(None).is_empty());
    }
}
