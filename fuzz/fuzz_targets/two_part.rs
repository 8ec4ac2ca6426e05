//! Two-part frames: no panic, bounded memory, the same verdict for every split, and what decodes
//! encodes back to the same bytes.
//!
//! Input: one byte of settings, then the byte stream.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use sinew_codec::{ChecksumMode, TWO_PART_PREFIX_BYTES, TwoPartCodec, TwoPartMessage};

fn codec(settings: u8) -> TwoPartCodec {
    let mode = match settings & 3 {
        0 => ChecksumMode::Off,
        1 => ChecksumMode::Write,
        _ => ChecksumMode::Verify,
    };
    let codec = match settings >> 2 & 3 {
        0 => TwoPartCodec::default(),
        1 => TwoPartCodec::new(64).with_max_header_size(16),
        2 => TwoPartCodec::new(usize::MAX).with_max_header_size(usize::MAX),
        _ => TwoPartCodec::new(0),
    };
    codec.with_checksum(mode).with_required_checksum(settings & 0x10 != 0)
}

/// Decodes the stream fed in pieces of `step` bytes; the frames, and the error that ended it.
fn decode(settings: u8, stream: &[u8], step: usize) -> (Vec<TwoPartMessage>, Option<String>) {
    let (mut codec, mut buffer, mut frames) = (codec(settings), BytesMut::new(), Vec::new());
    let mut received = 0;
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        received += piece.len();
        loop {
            match codec.decode_frame(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string())),
            }
            assert!(buffer.capacity() <= 2 * received + 64 * 1024 + 64);
        }
        assert!(buffer.capacity() <= 2 * received + 64 * 1024 + 64);
    }
    let end = codec.decode_frame_at_end(&mut buffer);
    (frames, end.err().map(|error| error.to_string()))
}

fuzz_target!(|data: &[u8]| {
    let Some((&settings, stream)) = data.split_first() else { return };
    let whole = decode(settings, stream, stream.len().max(1));
    assert_eq!(decode(settings, stream, 1 + usize::from(settings >> 5)), whole);

    let (plain, mut offset) = (codec(settings).with_checksum(ChecksumMode::Off), 0);
    for frame in whole.0 {
        let encoded = plain.encode_message(&frame).expect("what decodes is within the limits");
        let received = &stream[offset..offset + encoded.len()];
        assert_eq!(encoded[..16], received[..16], "lengths");
        assert_eq!(encoded[TWO_PART_PREFIX_BYTES..], received[TWO_PART_PREFIX_BYTES..], "parts");
        let alone = codec(settings).decode_message(Bytes::copy_from_slice(received));
        assert_eq!(alone.expect("a frame of the stream is a message"), frame);
        offset += encoded.len();
    }
});
