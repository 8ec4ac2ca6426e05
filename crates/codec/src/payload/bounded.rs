//! A writer that stops at a limit, and removes what a failed encode has written.

use std::io;

use bytes::{BufMut, BytesMut};

use crate::payload::PayloadError;

/// Appends to a buffer, up to a number of bytes.
pub(super) struct BoundedWriter<'a> {
    out: &'a mut BytesMut,
    start: usize,
    left: usize,
    overflowed: bool,
}

/// Runs `write` against `out`. When it fails, or would exceed `max_bytes`, `out` is as before.
pub(super) fn write_bounded(
    format: &'static str,
    out: &mut BytesMut,
    max_bytes: usize,
    write: impl FnOnce(&mut BoundedWriter<'_>) -> Result<(), PayloadError>,
) -> Result<(), PayloadError> {
    let start = out.len();
    let mut writer = BoundedWriter { out, start, left: max_bytes, overflowed: false };
    let result = write(&mut writer);
    // The encoders wrap our I/O error in their own; the flag is the reliable witness.
    let result = if writer.overflowed {
        Err(PayloadError::TooLarge { format, limit: max_bytes })
    } else {
        result
    };
    if result.is_err() {
        let start = writer.start;
        writer.out.truncate(start);
    }
    result
}

impl BoundedWriter<'_> {
    /// Appends all of `bytes`, or nothing.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.left {
            self.overflowed = true;
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.left -= bytes.len();
        self.out.put_slice(bytes);
        Ok(())
    }
}

impl io::Write for BoundedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes)?;
        Ok(bytes.len())
    }

    /// The encoders write a byte here and a few there: without the loop that the default has.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.push(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
