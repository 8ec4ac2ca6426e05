//! Limits the nesting and the element counts of binary payloads.
//!
//! bincode limits bytes, not depth or iterations: 32 MiB of ones decoded as a linked list is 32
//! million nested calls, which overflows the stack and ends the process. And a MessagePack array
//! may declare 2^32 elements, for which serde sets aside up to 1 MiB at each of its levels. So every
//! container passes through a wrapper that counts levels and elements.

use std::{cell::Cell, fmt};

use serde_core::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// What is left for one payload.
pub(super) struct Budget {
    depth: Cell<usize>,
    elements: Cell<usize>,
    exceeded: Cell<Option<&'static str>>,
}

impl Budget {
    /// Room for `depth` levels of containers, and for `elements` elements in all containers of
    /// variable length together. Fields and tuple elements do not count: the type bounds them.
    pub(super) fn new(depth: usize, elements: usize) -> Self {
        Self { depth: Cell::new(depth), elements: Cell::new(elements), exceeded: Cell::new(None) }
    }

    /// Which bound was hit, if any.
    pub(super) fn exceeded(&self) -> Option<&'static str> {
        self.exceeded.get()
    }

    /// Runs `inner` one level deeper.
    fn nested<T, E: Error>(&self, inner: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let depth = self.depth.get();
        let Some(left) = depth.checked_sub(1) else { return Err(self.refuse("nested too deep")) };
        self.depth.set(left);
        let result = inner();
        self.depth.set(depth);
        result
    }

    /// Accounts for one element that is present.
    fn take_element<E: Error>(&self) -> Result<(), E> {
        match self.elements.get().checked_sub(1) {
            Some(left) => self.elements.set(left),
            None => return Err(self.refuse("more elements than bytes")),
        }
        Ok(())
    }

    fn refuse<E: Error>(&self, reason: &'static str) -> E {
        self.exceeded.set(Some(reason));
        E::custom(reason)
    }
}

/// A deserializer, seed, visitor or access whose containers are counted against a budget.
pub(super) struct DepthLimited<'b, I> {
    inner: I,
    budget: &'b Budget,
    /// Whether the elements of this very container count.
    variable_length: bool,
}

impl<'b, I> DepthLimited<'b, I> {
    pub(super) fn new(inner: I, budget: &'b Budget) -> Self {
        Self { inner, budget, variable_length: false }
    }

    fn variable_length(inner: I, budget: &'b Budget) -> Self {
        Self { inner, budget, variable_length: true }
    }

    fn count_element<E: Error>(&self) -> Result<(), E> {
        if self.variable_length { self.budget.take_element() } else { Ok(()) }
    }

    /// The declared length, cut to what the payload could hold: visitors allocate from it.
    fn bounded_hint(&self, hint: Option<usize>) -> Option<usize> {
        hint.map(
            |hint| if self.variable_length { hint.min(self.budget.elements.get()) } else { hint },
        )
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for DepthLimited<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(DepthLimited::new(deserializer, self.budget))
    }
}

/// Scalars cannot nest, so their visitors go to the inner deserializer as they are.
macro_rules! forward_scalars {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.inner.$method(visitor)
        }
    )*};
}

/// Containers hand out further deserializers, so their visitors are wrapped.
macro_rules! guard_containers {
    ($wrap:ident: $($method:ident($($argument:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(
            self,
            $($argument: $type,)*
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            self.inner.$method($($argument,)* DepthLimited::$wrap(visitor, self.budget))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for DepthLimited<'_, D> {
    type Error = D::Error;

    forward_scalars! {
        deserialize_identifier deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit
    }

    guard_containers! { variable_length:
        deserialize_any()
        deserialize_ignored_any()
        deserialize_seq()
        deserialize_map()
    }

    guard_containers! { new:
        deserialize_option()
        deserialize_tuple(len: usize)
        deserialize_newtype_struct(name: &'static str)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Scalars end here; containers go one level deeper.
macro_rules! forward_values {
    ($($method:ident($type:ty))*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

macro_rules! guard_values {
    ($($method:ident: $access:ident)*) => {$(
        fn $method<A: $access<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
            let Self { inner: visitor, budget, variable_length } = self;
            budget.nested(|| visitor.$method(DepthLimited { inner, budget, variable_length }))
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for DepthLimited<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    forward_values! {
        visit_bool(bool) visit_char(char) visit_f32(f32) visit_f64(f64)
        visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
        visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128)
        visit_str(&str) visit_borrowed_str(&'de str) visit_string(String)
        visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    guard_values! {
        visit_some: Deserializer
        visit_newtype_struct: Deserializer
        visit_seq: SeqAccess
        visit_map: MapAccess
        visit_enum: EnumAccess
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for DepthLimited<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let element = self.inner.next_element_seed(DepthLimited::new(seed, self.budget))?;
        if element.is_some() {
            self.count_element()?;
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.bounded_hint(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for DepthLimited<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let key = self.inner.next_key_seed(DepthLimited::new(seed, self.budget))?;
        if key.is_some() {
            self.count_element()?;
        }
        Ok(key)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(DepthLimited::new(seed, self.budget))
    }

    fn size_hint(&self) -> Option<usize> {
        self.bounded_hint(self.inner.size_hint())
    }
}

impl<'b, 'de, A: EnumAccess<'de>> EnumAccess<'de> for DepthLimited<'b, A> {
    type Error = A::Error;
    type Variant = DepthLimited<'b, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let (tag, variant) = self.inner.variant_seed(seed)?;
        Ok((tag, DepthLimited::new(variant, self.budget)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for DepthLimited<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(DepthLimited::new(seed, self.budget))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, DepthLimited::new(visitor, self.budget))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, DepthLimited::new(visitor, self.budget))
    }
}
