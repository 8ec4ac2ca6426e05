//! Strict decoding of header parts: JSON that decides where a request goes.
//!
//! A header is parsed by several programs along its way. Two parsers that disagree about a repeated
//! key can be made to act on different requests, so what is ambiguous is refused here, before any
//! field is looked at.

use std::{borrow::Cow, cell::Cell, collections::HashSet, fmt};

use serde_core::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess,
    Visitor,
};

use crate::payload::{
    Format, PayloadError,
    json::{Json, decode_error},
};

/// Deepest nesting of a header: control messages have two or three levels.
pub const MAX_CONTROL_DEPTH: usize = 16;

/// Decodes a header part of at most `max_bytes` bytes.
///
/// Refuses everything that [`Json`] refuses, and also nesting beyond [`MAX_CONTROL_DEPTH`] and any
/// repeated key, even one that `T` does not have. Ignores other keys that `T` does not have, so
/// newer peers may add keys. Makes two passes over the text, each linear in its length.
pub fn decode_control<T: DeserializeOwned>(
    header: &[u8],
    max_bytes: usize,
) -> Result<T, PayloadError> {
    if header.len() > max_bytes {
        return Err(PayloadError::TooLarge { format: Json::NAME, limit: max_bytes });
    }
    check_shape(header)?;
    Json.decode(header)
}

fn check_shape(header: &[u8]) -> Result<(), PayloadError> {
    let fault = Cell::new(None);
    let mut input = serde_json::Deserializer::from_slice(header);
    Shape { depth_left: MAX_CONTROL_DEPTH, fault: &fault }.deserialize(&mut input).map_err(
        |error| match fault.get() {
            Some(reason) => PayloadError::Decode {
                format: Json::NAME,
                reason: format!("{reason} at line {} column {}", error.line(), error.column()),
            },
            None => decode_error(&error),
        },
    )
}

/// Walks any JSON value and keeps nothing.
struct Shape<'f> {
    depth_left: usize,
    fault: &'f Cell<Option<&'static str>>,
}

impl Shape<'_> {
    fn inner<E: Error>(&self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Self { depth_left, fault: self.fault }),
            None => Err(self.refuse("nested too deep")),
        }
    }

    fn refuse<E: Error>(&self, reason: &'static str) -> E {
        self.fault.set(Some(reason));
        E::custom(reason)
    }
}

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(self.inner()?)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = Keys::default();
        while let Some(key) = entries.next_key()? {
            if !seen.insert(key) {
                return Err(self.refuse("repeated key"));
            }
            entries.next_value_seed(self.inner()?)?;
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Keys that are compared one by one before a set is made. No control message of today has more,
/// and so none costs an allocation here.
const FEW_KEYS: usize = 12;

/// The keys of one object so far.
#[derive(Default)]
struct Keys<'de> {
    few: [Key<'de>; FEW_KEYS],
    count: usize,
    many: HashSet<Key<'de>>,
}

impl<'de> Keys<'de> {
    /// False when the key has been there.
    fn insert(&mut self, key: Key<'de>) -> bool {
        if self.few[..self.count].contains(&key) {
            return false;
        }
        let Some(place) = self.few.get_mut(self.count) else { return self.many.insert(key) };
        *place = key;
        self.count += 1;
        true
    }
}

/// A key, as a slice of the text where it stands there as it reads.
#[derive(PartialEq, Eq, Hash, Default)]
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}
