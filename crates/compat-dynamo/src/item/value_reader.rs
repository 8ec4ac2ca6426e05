//! Where values begin and end in MessagePack, without reading what is in them.

use std::ops::Range;

/// Why bytes are not the map that was expected. The text quotes nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

const CUT_SHORT: Malformed = Malformed("ends too early");

/// Reads over values in order.
pub(super) struct ValueReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What one marker announces.
struct Marker {
    /// Bytes that belong to this value alone, behind the marker and its length field.
    payload: usize,
    /// Values that follow as its content: one per element, two per entry of a map.
    children: u64,
}

impl<'a> ValueReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// True when nothing is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Passes over one value and tells where it stood. Takes time in proportion to its bytes and
    /// no room, however deep it is nested or whatever lengths it declares.
    pub(super) fn skip(&mut self) -> Result<Range<usize>, Malformed> {
        let start = self.at;
        let mut wanted: u64 = 1;
        while wanted > 0 {
            let marker = self.marker()?;
            self.take(marker.payload)?;
            // Each value has a byte of its own, so more than fit in an address are never reached.
            wanted = (wanted - 1).saturating_add(marker.children);
        }
        Ok(start..self.at)
    }

    /// The number of entries of the map that begins here; `None` when something else does, which
    /// is then not passed over.
    pub(super) fn map(&mut self) -> Result<Option<u64>, Malformed> {
        let before = self.at;
        let [marker] = self.array()?;
        match marker {
            0x80..=0x8f => Ok(Some(u64::from(marker & 0x0f))),
            0xde => Ok(Some(u64::from(u16::from_be_bytes(self.array()?)))),
            0xdf => Ok(Some(u64::from(u32::from_be_bytes(self.array()?)))),
            _ => {
                self.at = before;
                Ok(None)
            }
        }
    }

    /// The length of the array that begins here, as [`map`](Self::map).
    pub(super) fn sequence(&mut self) -> Result<Option<u64>, Malformed> {
        let before = self.at;
        let [marker] = self.array()?;
        match marker {
            0x90..=0x9f => Ok(Some(u64::from(marker & 0x0f))),
            0xdc => Ok(Some(u64::from(u16::from_be_bytes(self.array()?)))),
            0xdd => Ok(Some(u64::from(u32::from_be_bytes(self.array()?)))),
            _ => {
                self.at = before;
                Ok(None)
            }
        }
    }

    /// The text that begins here, as [`map`](Self::map).
    pub(super) fn text(&mut self) -> Result<Option<&'a str>, Malformed> {
        let before = self.at;
        let [marker] = self.array()?;
        let length = match marker {
            0xa0..=0xbf => usize::from(marker & 0x1f),
            0xd9 => usize::from(u8::from_be_bytes(self.array()?)),
            0xda => usize::from(u16::from_be_bytes(self.array()?)),
            0xdb => self.long()?,
            _ => {
                self.at = before;
                return Ok(None);
            }
        };
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| Malformed("text is not UTF-8"))
    }

    /// The truth value that begins here, as [`map`](Self::map).
    pub(super) fn boolean(&mut self) -> Option<bool> {
        let value = match self.bytes.get(self.at)? {
            0xc2 => false,
            0xc3 => true,
            _ => return None,
        };
        self.at += 1;
        Some(value)
    }

    fn marker(&mut self) -> Result<Marker, Malformed> {
        let [marker] = self.array()?;
        let scalar = |payload| Marker { payload, children: 0 };
        let sequence = |children| Marker { payload: 0, children };
        Ok(match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => scalar(0),
            0x80..=0x8f => sequence(u64::from(marker & 0x0f) * 2),
            0x90..=0x9f => sequence(u64::from(marker & 0x0f)),
            0xa0..=0xbf => scalar(usize::from(marker & 0x1f)),
            0xc1 => return Err(Malformed("a marker that does not exist")),
            0xc4 | 0xd9 => scalar(usize::from(u8::from_be_bytes(self.array()?))),
            0xc5 | 0xda => scalar(usize::from(u16::from_be_bytes(self.array()?))),
            0xc6 | 0xdb => scalar(self.long()?),
            // Extensions: a type byte before the content.
            0xc7 => scalar(usize::from(u8::from_be_bytes(self.array()?)) + 1),
            0xc8 => scalar(usize::from(u16::from_be_bytes(self.array()?)) + 1),
            0xc9 => scalar(self.long()?.saturating_add(1)),
            0xcc | 0xd0 => scalar(1),
            0xcd | 0xd1 => scalar(2),
            0xca | 0xce | 0xd2 => scalar(4),
            0xcb | 0xcf | 0xd3 => scalar(8),
            0xd4..=0xd8 => scalar((1 << (marker - 0xd4)) + 1),
            0xdc => sequence(u64::from(u16::from_be_bytes(self.array()?))),
            0xdd => sequence(u64::from(u32::from_be_bytes(self.array()?))),
            0xde => sequence(u64::from(u16::from_be_bytes(self.array()?)) * 2),
            0xdf => sequence(u64::from(u32::from_be_bytes(self.array()?)) * 2),
        })
    }

    fn long(&mut self) -> Result<usize, Malformed> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| CUT_SHORT)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let rest = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk);
        let array = *rest.ok_or(CUT_SHORT)?;
        self.at += N;
        Ok(array)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(CUT_SHORT)?;
        let taken = self.bytes.get(self.at..end).ok_or(CUT_SHORT)?;
        self.at = end;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_kind_of_value_is_passed_over_whole() {
        let kinds: &[&[u8]] = &[
            b"\x05",
            b"\xff",
            b"\xc0",
            b"\xc2",
            b"\xc3",
            b"\xcc\x01",
            b"\xcd\x01\x02",
            b"\xce\x01\x02\x03\x04",
            b"\xcf\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\xd0\x01",
            b"\xd1\x01\x02",
            b"\xd2\x01\x02\x03\x04",
            b"\xd3\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\xca\x01\x02\x03\x04",
            b"\xcb\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\xa2ab",
            b"\xd9\x02ab",
            b"\xda\x00\x02ab",
            b"\xdb\x00\x00\x00\x02ab",
            b"\xc4\x02ab",
            b"\xc5\x00\x02ab",
            b"\xc6\x00\x00\x00\x02ab",
            b"\xd4\x01a",
            b"\xd5\x01ab",
            b"\xd6\x01abcd",
            b"\xd7\x01abcdefgh",
            b"\xd8\x01abcdefghijklmnop",
            b"\xc7\x02\x01ab",
            b"\xc8\x00\x02\x01ab",
            b"\xc9\x00\x00\x00\x02\x01ab",
            b"\x92\x01\x02",
            b"\xdc\x00\x02\x01\x02",
            b"\xdd\x00\x00\x00\x02\x01\x02",
            b"\x81\xa1a\x01",
            b"\xde\x00\x01\xa1a\x01",
            b"\xdf\x00\x00\x00\x01\xa1a\x01",
        ];
        for bytes in kinds {
            let mut reader = ValueReader::new(bytes);
            assert_eq!(reader.skip(), Ok(0..bytes.len()), "{bytes:x?}");
            assert!(reader.is_at_end());
            for cut in 0..bytes.len() {
                assert_eq!(
                    ValueReader::new(&bytes[..cut]).skip(),
                    Err(CUT_SHORT),
                    "{bytes:x?} {cut}"
                );
            }
        }
        assert!(ValueReader::new(b"\xc1").skip().is_err());
    }

    #[test]
    fn declared_lengths_cost_nothing() {
        // Ten million nested arrays of four thousand million elements each.
        let mut bytes = Vec::new();
        for _ in 0..10_000_000 {
            bytes.extend_from_slice(b"\xdd\xff\xff\xff\xff");
        }
        assert_eq!(ValueReader::new(&bytes).skip(), Err(CUT_SHORT));
        assert_eq!(ValueReader::new(b"\xdb\xff\xff\xff\xffx").skip(), Err(CUT_SHORT));
        assert_eq!(ValueReader::new(b"\xc9\xff\xff\xff\xffx").skip(), Err(CUT_SHORT));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,300}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 40, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..40).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,40}", inner, 0..40)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_a_real_encoder_writes_is_passed_over_whole(value in any_value()) {
            let bytes = rmp_serde::to_vec_named(&value).unwrap();
            prop_assert_eq!(ValueReader::new(&bytes).skip(), Ok(0..bytes.len()));
        }

        #[test]
        fn any_bytes_end_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ValueReader::new(&bytes).skip();
        }
    }
}
