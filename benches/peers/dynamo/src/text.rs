//! A body as Dynamo carries it: a string, which is the shortest form that both of its codecs have
//! for bytes that are text.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// All bodies and items of the workloads are text.
#[derive(Debug, Clone)]
pub(crate) struct Text(pub(crate) Bytes);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(std::str::from_utf8(&self.0).map_err(ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Bytes::copy_from_slice(text.as_bytes())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
                Ok(Text(text.into()))
            }
        }

        from.deserialize_str(Visitor)
    }
}
