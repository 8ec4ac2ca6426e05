//! Node envelopes: no panic, bounded memory, the same verdict for every split, and what decodes
//! encodes back to the same bytes.
//!
//! Input: one byte of settings, then the byte stream.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sinew_codec::{Envelope, EnvelopeCodec};

fn codec(settings: u8) -> EnvelopeCodec {
    let codec = match settings & 3 {
        0 => EnvelopeCodec::default(),
        1 => EnvelopeCodec::new(8),
        _ => EnvelopeCodec::new(usize::MAX),
    };
    if settings & 4 == 0 { codec } else { codec.with_versions(0..=u16::MAX) }
}

/// Decodes the stream fed in pieces of `step` bytes; the envelopes, and the error that ended it.
fn decode(settings: u8, stream: &[u8], step: usize) -> (Vec<Envelope>, Option<String>) {
    let (mut codec, mut buffer, mut envelopes) = (codec(settings), BytesMut::new(), Vec::new());
    let mut received = 0;
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        received += piece.len();
        loop {
            match codec.decode_frame(&mut buffer) {
                Ok(Some(envelope)) => envelopes.push(envelope),
                Ok(None) => break,
                Err(error) => return (envelopes, Some(error.to_string())),
            }
        }
        assert!(buffer.capacity() <= 2 * received + 64 * 1024 + 64);
    }
    let end = codec.decode_frame_at_end(&mut buffer);
    (envelopes, end.err().map(|error| error.to_string()))
}

fuzz_target!(|data: &[u8]| {
    let Some((&settings, stream)) = data.split_first() else { return };
    let whole = decode(settings, stream, stream.len().max(1));
    assert_eq!(decode(settings, stream, 1 + usize::from(settings >> 5)), whole);

    let mut encoded = BytesMut::new();
    for envelope in &whole.0 {
        codec(settings).encode_frame(envelope, &mut encoded).expect("what decodes encodes");
    }
    assert!(stream.starts_with(&encoded));
});
