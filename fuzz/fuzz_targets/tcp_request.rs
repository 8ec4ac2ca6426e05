//! Frames of Dynamo's request plane: no panic, bounded memory, the same verdict for every split,
//! and what decodes encodes back to the same bytes.
//!
//! Input: one byte of settings, then the byte stream.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use sinew_codec::{TcpRequestCodec, TcpRequestMessage, TcpResponseCodec, TcpResponseMessage};

fn codec(settings: u8) -> TcpRequestCodec {
    match settings & 3 {
        0 => TcpRequestCodec::default(),
        1 => TcpRequestCodec::new(64),
        2 => TcpRequestCodec::new(usize::MAX),
        _ => TcpRequestCodec::new(0),
    }
}

/// Decodes the stream fed in pieces of `step` bytes; the frames, and the error that ended it.
fn decode(settings: u8, stream: &[u8], step: usize) -> (Vec<TcpRequestMessage>, Option<String>) {
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
        }
        assert!(buffer.capacity() <= 2 * received + 64 * 1024 + 64);
    }
    let end = codec.decode_frame_at_end(&mut buffer);
    (frames, end.err().map(|error| error.to_string()))
}

/// The same for acknowledgements.
fn answers(stream: &[u8], step: usize) -> (Vec<TcpResponseMessage>, bool) {
    let (mut codec, mut buffer) = (TcpResponseCodec::new(64), BytesMut::new());
    let mut answers = Vec::new();
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode_frame(&mut buffer) {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => break,
                Err(_) => return (answers, true),
            }
        }
    }
    (answers, codec.decode_frame_at_end(&mut buffer).is_err())
}

fuzz_target!(|data: &[u8]| {
    let Some((&settings, stream)) = data.split_first() else { return };
    let step = 1 + usize::from(settings >> 5);
    let whole = decode(settings, stream, stream.len().max(1));
    assert_eq!(decode(settings, stream, step), whole);
    assert_eq!(answers(stream, step), answers(stream, stream.len().max(1)));

    let mut offset = 0;
    for frame in whole.0 {
        let mut encoded = BytesMut::new();
        codec(settings).encode_frame(&frame, &mut encoded).expect("what decodes is within limits");
        let received = &stream[offset..offset + encoded.len()];
        assert_eq!(encoded, received);
        let alone = codec(settings).decode_message(Bytes::copy_from_slice(received));
        assert_eq!(alone.expect("a frame of the stream is a message"), frame);
        offset += encoded.len();
    }
});
