//! A deserializer that yields byte strings and nothing else.

use std::{slice, str};

use serde_core::{
    Deserializer,
    de::{DeserializeSeed, SeqAccess, Visitor},
    forward_to_deserialize_any,
};

use crate::payload::{
    Format, PayloadError,
    raw::{Raw, RawError},
};

/// The whole payload as one value.
pub(super) struct RawDeserializer<'de>(pub(super) &'de [u8]);

/// The payload byte by byte, for `Vec<u8>` and arrays, which serde reads as sequences.
struct Elements<'de>(slice::Iter<'de, u8>);

/// One byte of it.
struct Element(u8);

impl<'de> RawDeserializer<'de> {
    fn sequence<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        let mut elements = Elements(self.0.iter());
        let value = visitor.visit_seq(&mut elements)?;
        if elements.0.len() == 0 {
            Ok(value)
        } else {
            Err(RawError(PayloadError::TrailingBytes { format: Raw::NAME }))
        }
    }
}

impl<'de> Deserializer<'de> for RawDeserializer<'de> {
    type Error = RawError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, RawError> {
        Err(RawError::not_bytes("another type"))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        match str::from_utf8(self.0) {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => Err(RawError(PayloadError::Decode {
                format: Raw::NAME,
                reason: "text is not UTF-8".to_owned(),
            })),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RawError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        self.sequence(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, RawError> {
        self.sequence(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char option unit unit_struct
        tuple_struct map struct enum identifier ignored_any
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'de> {
    type Error = RawError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, RawError> {
        self.0.next().map(|byte| seed.deserialize(Element(*byte))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

impl<'de> Deserializer<'de> for Element {
    type Error = RawError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, RawError> {
        Err(RawError::not_bytes("a sequence of other things than bytes"))
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_u8(self.0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}
