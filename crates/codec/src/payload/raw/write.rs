//! A serializer that accepts byte strings and nothing else.

use serde_core::{
    Serialize, Serializer,
    ser::{Impossible, SerializeSeq, SerializeTuple},
};

use crate::payload::{bounded::BoundedWriter, raw::RawError};

type Refused = Impossible<(), RawError>;

/// Writes the bytes of one value, or one byte of a sequence such as `Vec<u8>`.
pub(super) struct RawSerializer<'w, 'o> {
    writer: &'w mut BoundedWriter<'o>,
    part: Part,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Whole,
    Element,
}

impl<'w, 'o> RawSerializer<'w, 'o> {
    pub(super) fn whole(writer: &'w mut BoundedWriter<'o>) -> Self {
        Self { writer, part: Part::Whole }
    }

    fn push(self, allowed: Part, found: &'static str, bytes: &[u8]) -> Result<(), RawError> {
        if self.part != allowed {
            return Err(RawError::not_bytes(found));
        }
        // The error value is replaced: `write_bounded` knows that the limit was the reason.
        self.writer.push(bytes).map_err(|_| RawError::not_bytes("a value above the limit"))
    }

    fn sequence(self) -> Result<Self, RawError> {
        match self.part {
            Part::Whole => Ok(self),
            Part::Element => Err(RawError::not_bytes("a sequence of sequences")),
        }
    }

    fn push_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RawError> {
        value.serialize(RawSerializer { writer: self.writer, part: Part::Element })
    }
}

macro_rules! refuse {
    ($found:literal: $($method:ident($($type:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $(_: $type),*) -> Result<$ok, RawError> {
            Err(RawError::not_bytes($found))
        }
    )*};
}

impl Serializer for RawSerializer<'_, '_> {
    type Ok = ();
    type Error = RawError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Refused;
    type SerializeTupleVariant = Refused;
    type SerializeMap = Refused;
    type SerializeStruct = Refused;
    type SerializeStructVariant = Refused;

    fn serialize_bytes(self, value: &[u8]) -> Result<(), RawError> {
        self.push(Part::Whole, "a sequence of byte strings", value)
    }

    fn serialize_str(self, value: &str) -> Result<(), RawError> {
        self.push(Part::Whole, "a sequence of texts", value.as_bytes())
    }

    fn serialize_u8(self, value: u8) -> Result<(), RawError> {
        self.push(Part::Element, "a number", &[value])
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), RawError> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, RawError> {
        self.sequence()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, RawError> {
        self.sequence()
    }

    refuse! { "a number":
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
    }
    refuse! { "a bool or a char":
        serialize_bool(bool) -> ();
        serialize_char(char) -> ();
    }
    refuse! { "an empty value":
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
    }
    refuse! { "an enum":
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Refused;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Refused;
    }
    refuse! { "a struct or a map":
        serialize_tuple_struct(&'static str, usize) -> Refused;
        serialize_map(Option<usize>) -> Refused;
        serialize_struct(&'static str, usize) -> Refused;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), RawError> {
        Err(RawError::not_bytes("an optional value"))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), RawError> {
        Err(RawError::not_bytes("an enum"))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl SerializeSeq for RawSerializer<'_, '_> {
    type Ok = ();
    type Error = RawError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RawError> {
        self.push_element(value)
    }

    fn end(self) -> Result<(), RawError> {
        Ok(())
    }
}

impl SerializeTuple for RawSerializer<'_, '_> {
    type Ok = ();
    type Error = RawError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RawError> {
        self.push_element(value)
    }

    fn end(self) -> Result<(), RawError> {
        Ok(())
    }
}
