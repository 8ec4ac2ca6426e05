//! Items as a Dynamo peer writes them: `{"data":ITEM,"complete_final":false}`, and at the end
//! `{"complete_final":true}`.
//!
//! ITEM is usually an [`Annotated`](crate::Annotated). Both wrappings are added and removed on the
//! bytes: no value is decoded and encoded again, and an unwrapped item is a slice of the received
//! bytes.

mod annotation_fields;
mod json;
mod msgpack;
mod value_reader;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use sinew_plane::{Code, Error, Executed};
use sinew_split::ItemFormat;

use crate::{Annotated, Content, DynamoError, Frame, PayloadCodec};

/// Wraps and unwraps items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemCodec {
    codec: PayloadCodec,
    annotated: bool,
}

/// What stands before and behind an item.
struct Wrapping {
    before: &'static [u8],
    behind: &'static [u8],
}

impl ItemCodec {
    /// Makes a codec for plain items, which wraps each in an [`Annotated`] and removes that again.
    pub const fn new(codec: PayloadCodec) -> Self {
        Self { codec, annotated: false }
    }

    /// Sets whether items are [`Annotated`] themselves and stay unchanged.
    #[must_use]
    pub const fn annotated(mut self, annotated: bool) -> Self {
        self.annotated = annotated;
        self
    }

    pub(crate) const fn of(format: ItemFormat) -> Self {
        Self { codec: format.codec, annotated: format.annotated }
    }

    /// The payload codec of body and items.
    pub const fn codec(&self) -> PayloadCodec {
        self.codec
    }

    /// Wraps an item, which is one value in the codec. It is copied once.
    pub fn wrap(&self, item: &[u8]) -> Bytes {
        let Wrapping { before, behind } = self.wrapping(self.annotated);
        splice(before, item, behind)
    }

    /// Wraps an error as an item. The stream continues to its end after it.
    ///
    /// # Errors
    /// The error cannot be encoded, which is a fault of this crate.
    pub fn wrap_error(&self, error: &DynamoError) -> Result<Bytes, Error> {
        let item: Annotated<()> = Annotated::from_error(error.clone());
        let item = encode(self.codec, &item)?;
        let Wrapping { before, behind } = self.wrapping(true);
        Ok(splice(before, &item, behind))
    }

    /// The frame after the last item.
    pub const fn end(&self) -> Bytes {
        Bytes::from_static(match self.codec {
            PayloadCodec::Json => b"{\"complete_final\":true}",
            PayloadCodec::Msgpack => b"\x81\xaecomplete_final\xc3",
        })
    }

    /// Unwraps a frame. Items are slices of it.
    ///
    /// # Errors
    /// [`Code::Violation`]: the frame is not a wrapping. The handler ran.
    pub fn unwrap(&self, frame: &Bytes) -> Result<Frame, Error> {
        if let Some(item) = self.plain(frame) {
            let content = Content::Item(frame.slice_ref(item));
            return Ok(Frame { content, is_final: false });
        }
        let (data, is_final) = match self.codec {
            PayloadCodec::Json => json::envelope(frame),
            PayloadCodec::Msgpack => msgpack::envelope(frame),
        }
        .map_err(|reason| violation(self.codec, reason.0))?;
        let content = match data {
            Some(data) if self.annotated => Content::Item(frame.slice_ref(data)),
            Some(data) => self.open(frame, data),
            None if is_final => Content::Nothing,
            None => return Err(violation(self.codec, "it holds neither an item nor an end")),
        };
        Ok(Frame { content, is_final })
    }

    /// The item of a frame as [`wrap`](Self::wrap) writes it, when that is quicker to see.
    fn plain<'a>(&self, frame: &'a Bytes) -> Option<&'a [u8]> {
        let Wrapping { before, behind } = self.wrapping(false);
        match self.codec {
            PayloadCodec::Json if !self.annotated => json::plain(frame, before, behind),
            // There is one wrapping to take off, or what it holds is passed over unread anyway.
            _ => None,
        }
    }

    /// Takes the annotations off an item.
    fn open(&self, frame: &Bytes, item: &[u8]) -> Content {
        let fields = match self.codec {
            PayloadCodec::Json => json::annotations(item),
            PayloadCodec::Msgpack => msgpack::annotations(item),
        };
        // Workers may stream values of their own type; those are passed on as they are.
        let Some(fields) = fields else { return Content::Item(frame.slice_ref(item)) };
        if let Some(error) = fields.error {
            return Content::Failed(error);
        }
        match fields.data {
            Some(data) => Content::Item(frame.slice_ref(data)),
            None => Content::Nothing,
        }
    }

    const fn wrapping(&self, annotated: bool) -> Wrapping {
        let (before, behind): (&[u8], &[u8]) = match (self.codec, annotated) {
            (PayloadCodec::Json, true) => (b"{\"data\":", b",\"complete_final\":false}"),
            (PayloadCodec::Json, false) => {
                (b"{\"data\":{\"data\":", b"},\"complete_final\":false}")
            }
            (PayloadCodec::Msgpack, true) => (b"\x82\xa4data", b"\xaecomplete_final\xc2"),
            (PayloadCodec::Msgpack, false) => {
                (b"\x82\xa4data\x81\xa4data", b"\xaecomplete_final\xc2")
            }
        };
        Wrapping { before, behind }
    }
}

fn splice(before: &[u8], item: &[u8], behind: &[u8]) -> Bytes {
    let mut wrapped = BytesMut::with_capacity(before.len() + item.len() + behind.len());
    wrapped.put_slice(before);
    wrapped.put_slice(item);
    wrapped.put_slice(behind);
    wrapped.freeze()
}

fn encode<T: Serialize>(codec: PayloadCodec, value: &T) -> Result<Bytes, Error> {
    codec.format().encode(value).map_err(|error| {
        let message = format!("an error cannot be told to the caller: {error}");
        Error::new(Code::InvalidPayload, message).with_executed(Executed::Yes)
    })
}

fn violation(codec: PayloadCodec, reason: &str) -> Error {
    let message =
        format!("the worker sent a frame that is no item in {}: {reason}", codec.format());
    Error::new(Code::Violation, message).with_executed(Executed::Yes)
}

#[cfg(test)]
mod tests;
