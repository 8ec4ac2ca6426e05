//! Headers as a JSON list of pairs, which keeps their order and costs no map on either side.

use std::{borrow::Cow, fmt};

use bytes::{BufMut, BytesMut};
use serde::{
    Deserializer, Serializer,
    de::{Error as _, SeqAccess, Visitor},
};
use sinew_plane::{Headers, HeadersError};

/// Writes headers; for serde's attribute `with`.
///
/// # Errors
/// The errors of `out`.
pub fn serialize<S: Serializer>(headers: &Headers, out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(headers.iter())
}

/// Reads headers; for serde's attribute `with`.
///
/// # Errors
/// The input is not a list of pairs, or [`Headers`] cannot hold them.
pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Headers, D::Error> {
    input.deserialize_seq(Pairs)
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of pairs of name and value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Headers, A::Error> {
        let mut block = BytesMut::new();
        while let Some((name, value)) = pairs.next_element::<(Cow<'de, str>, Cow<'de, str>)>()? {
            put(&mut block, &name, &value).map_err(A::Error::custom)?;
        }
        // The block is bounded by the text it came from; names, values and limits are checked here.
        Headers::decode(block.freeze()).map_err(A::Error::custom)
    }
}

/// Adds an entry to a block. [`Headers::decode`], which reads the block, checks its name and value.
///
/// # Errors
/// A length does not fit into its field.
pub fn put(block: &mut BytesMut, name: &str, value: &str) -> Result<(), HeadersError> {
    block.put_u8(u8::try_from(name.len()).map_err(|_| HeadersError::InvalidName)?);
    block.put_slice(name.as_bytes());
    block.put_u16(u16::try_from(value.len()).map_err(|_| HeadersError::TooLarge)?);
    block.put_slice(value.as_bytes());
    Ok(())
}
