//! The request plane's codecs: any split gives the same frames, any bytes stay within bounds.

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};
use sinew_codec::{TcpRequestCodec, TcpRequestMessage, TcpResponseCodec, TcpResponseMessage};

/// A small limit, so that arbitrary lengths fall on both sides of it.
const MAX_MESSAGE: usize = 4096;

fn message() -> impl Strategy<Value = TcpRequestMessage> {
    let parts = ("[a-zäö0-9/%]{1,40}", vec(any::<u8>(), 0..64), vec(any::<u8>(), 0..300));
    parts.prop_filter_map("a path within the rules", |(path, headers, payload)| {
        TcpRequestMessage::new(path, headers, payload).ok()
    })
}

/// Frames that may be legal, with too few or too many bytes in them.
fn nearly_frame() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![0_u16..40, 1020_u16..1030, any::<u16>()];
    let payload_len = prop_oneof![0_u32..300, 4000_u32..4100, any::<u32>()];
    (length.clone(), vec(b'a'..=b'z', 0..40), length, vec(any::<u8>(), 0..40), payload_len)
        .prop_map(|(path_len, path, headers_len, headers, payload_len)| {
            let mut bytes = path_len.to_be_bytes().to_vec();
            bytes.extend(path);
            bytes.extend(headers_len.to_be_bytes());
            bytes.extend(headers);
            bytes.extend(payload_len.to_be_bytes());
            bytes
        })
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..600), nearly_frame()]
}

/// Feeds `wire` in pieces and decodes all there is after each; the last entry may be an error
/// text.
fn decode_in_pieces(wire: &[u8], cuts: &[usize]) -> Vec<Result<TcpRequestMessage, String>> {
    let mut codec = TcpRequestCodec::new(MAX_MESSAGE);
    let (mut buffer, mut out) = (BytesMut::new(), Vec::new());
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
    ends.push(wire.len());
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        buffer.extend_from_slice(&wire[start..end]);
        start = end;
        loop {
            match codec.decode_frame(&mut buffer) {
                Ok(Some(message)) => out.push(Ok(message)),
                Ok(None) => break,
                Err(error) => {
                    out.push(Err(error.to_string()));
                    return out;
                }
            }
        }
    }
    out
}

proptest! {
    #[test]
    fn requests_survive_any_split(messages in vec(message(), 0..6), cuts in vec(any::<usize>(), 0..20)) {
        let codec = TcpRequestCodec::new(MAX_MESSAGE);
        let mut wire = BytesMut::new();
        for message in &messages {
            codec.encode_frame(message, &mut wire).unwrap();
        }
        let expected: Vec<_> = messages.into_iter().map(Ok).collect();
        prop_assert_eq!(decode_in_pieces(&wire, &cuts), expected);
    }

    #[test]
    fn any_bytes_give_the_same_verdict_however_they_are_cut(wire in hostile(), cuts in vec(any::<usize>(), 0..20)) {
        prop_assert_eq!(decode_in_pieces(&wire, &cuts), decode_in_pieces(&wire, &[]));
    }

    #[test]
    fn memory_follows_what_was_received(wire in hostile()) {
        let mut codec = TcpRequestCodec::default();
        let mut buffer = BytesMut::from(&wire[..]);
        while let Ok(Some(_)) = codec.decode_frame(&mut buffer) {}
        prop_assert!(buffer.capacity() <= 2 * wire.len() + (64 << 10) + 64);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(wire in hostile()) {
        let codec = TcpRequestCodec::new(MAX_MESSAGE);
        if let Ok(message) = codec.decode_message(Bytes::from(wire.clone())) {
            let mut again = BytesMut::new();
            codec.encode_frame(&message, &mut again).unwrap();
            prop_assert_eq!(&again[..], &wire[..]);
        }
    }

    #[test]
    fn acknowledgements_survive_any_split(texts in vec(vec(any::<u8>(), 0..50), 0..8), piece in 1_usize..9) {
        let mut codec = TcpResponseCodec::new(64);
        let mut wire = BytesMut::new();
        for text in &texts {
            codec.encode_frame(&TcpResponseMessage { data: text.clone().into() }, &mut wire).unwrap();
        }
        let (mut buffer, mut decoded) = (BytesMut::new(), Vec::new());
        for bytes in wire.chunks(piece) {
            buffer.extend_from_slice(bytes);
            while let Some(message) = codec.decode_frame(&mut buffer).unwrap() {
                decoded.push(message.data.to_vec());
            }
        }
        prop_assert_eq!(decoded, texts);
    }

    #[test]
    fn any_bytes_as_acknowledgements_stay_within_bounds(wire in vec(any::<u8>(), 0..300)) {
        let mut codec = TcpResponseCodec::new(64);
        let mut buffer = BytesMut::from(&wire[..]);
        while let Ok(Some(message)) = codec.decode_frame(&mut buffer) {
            prop_assert!(message.data.len() <= 64);
        }
        prop_assert!(buffer.capacity() <= 2 * wire.len() + (64 << 10) + 64);
    }
}
