//! Both frame codecs: any split gives the same frames, any bytes stay within bounds.

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};
use sinew_codec::{
    ChecksumMode, Envelope, EnvelopeCodec, TwoPartCodec, TwoPartError, TwoPartMessage, checksum_of,
};

/// Small limits, so that arbitrary lengths fall on both sides of them.
const MAX_MESSAGE: usize = 4096;
const MAX_HEADER: usize = 512;

fn codec() -> TwoPartCodec {
    TwoPartCodec::new(MAX_MESSAGE).with_max_header_size(MAX_HEADER)
}

fn part(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn message() -> impl Strategy<Value = TwoPartMessage> {
    (part(64), part(300)).prop_map(|(header, body)| TwoPartMessage { header, body })
}

/// Lengths around every boundary that matters, next to arbitrary ones.
fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..64,
        any::<u64>(),
        (0u64..5).prop_map(|n| MAX_HEADER as u64 - 2 + n),
        (0u64..5).prop_map(|n| MAX_MESSAGE as u64 - 26 + n),
        (0u64..30).prop_map(|n| u64::MAX - n),
        (0u64..4).prop_map(|n| u64::from(u32::MAX) - 1 + n),
    ]
}

/// Prefixes that may be legal, with too few or too many bytes behind them.
fn nearly_frame() -> impl Strategy<Value = Vec<u8>> {
    (length(), length(), any::<u64>(), vec(any::<u8>(), 0..600)).prop_map(|(h, b, sum, tail)| {
        let mut bytes = Vec::new();
        for word in [h, b, sum] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.extend_from_slice(&tail);
        bytes
    })
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..600), nearly_frame()]
}

/// Feeds `wire` in pieces and decodes all there is after each; the last entry may be an error text.
fn decode_in_pieces(wire: &[u8], cuts: &[usize]) -> Vec<Result<TwoPartMessage, String>> {
    let (mut codec, mut buffer, mut out) = (codec(), BytesMut::new(), Vec::new());
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

/// A second, naive decoder of one whole frame, written from the format table alone.
fn naive(bytes: &[u8]) -> Option<Result<TwoPartMessage, ()>> {
    let word = |at: usize| {
        let word = bytes.get(at..)?.first_chunk::<8>()?;
        Some(u128::from(u64::from_be_bytes(*word)))
    };
    let header_len = word(0)?;
    if header_len > MAX_HEADER as u128 {
        return Some(Err(()));
    }
    let total = 24 + header_len + word(8)?;
    if total > MAX_MESSAGE as u128 {
        return Some(Err(()));
    }
    let stated = word(16)?;
    let frame = bytes.get(24..total as usize)?;
    let (header, body) = frame.split_at(header_len as usize);
    if stated != 0 && stated != u128::from(checksum_of(header, body)) {
        return Some(Err(()));
    }
    Some(Ok(TwoPartMessage::from_parts(header.to_vec(), body.to_vec())))
}

proptest! {
    // COD-07, B-A17
    #[test]
    fn any_split_gives_the_same_frames(
        messages in vec(message(), 0..6),
        cuts in vec(any::<usize>(), 0..12),
        write in any::<bool>(),
    ) {
        let mode = if write { ChecksumMode::Write } else { ChecksumMode::Off };
        let mut wire = BytesMut::new();
        for message in &messages {
            codec().with_checksum(mode).encode_frame(message, &mut wire).unwrap();
        }
        let expected: Vec<_> = messages.into_iter().map(Ok).collect();
        prop_assert_eq!(decode_in_pieces(&wire, &cuts), expected);
    }

    // The verdict on bad bytes does not depend on the split either.
    #[test]
    fn any_split_gives_the_same_verdict(
        messages in vec(message(), 0..3),
        tail in hostile(),
        cuts in vec(any::<usize>(), 0..12),
    ) {
        let mut wire = BytesMut::new();
        for message in &messages {
            codec().encode_frame(message, &mut wire).unwrap();
        }
        wire.extend_from_slice(&tail);
        prop_assert_eq!(decode_in_pieces(&wire, &cuts), decode_in_pieces(&wire, &[]));
    }

    // B-A01 to B-A05 against the naive decoder.
    #[test]
    fn the_decoder_agrees_with_a_naive_one(bytes in hostile()) {
        let decoded = codec().decode_frame(&mut BytesMut::from(&bytes[..]));
        match (decoded, naive(&bytes)) {
            (Ok(None), None) | (Err(_), Some(Err(()))) => {}
            (Ok(Some(ours)), Some(Ok(theirs))) => prop_assert_eq!(ours, theirs),
            (ours, theirs) => prop_assert!(false, "{ours:?} against {theirs:?}"),
        }
    }

    // I10: capacity follows the received bytes, never the declared ones.
    #[test]
    fn capacity_follows_the_received_bytes(bytes in hostile(), step in 1usize..700) {
        let mut codec = TwoPartCodec::new(usize::MAX).with_max_header_size(usize::MAX);
        let (mut buffer, mut received) = (BytesMut::new(), 0);
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            received += piece.len();
            while let Ok(Some(_)) = codec.decode_frame(&mut buffer) {}
            // Doubling, plus one reservation step; see `TwoPartCodec`.
            prop_assert!(buffer.capacity() <= 2 * received + 64 * 1024 + 64);
        }
    }

    // B-A07, B-A08
    #[test]
    fn a_flipped_bit_never_yields_a_frame(message in message(), bit in any::<usize>()) {
        let mut wire = BytesMut::new();
        codec().encode_frame(&message, &mut wire).unwrap();
        let bit = bit % (wire.len() * 8);
        wire[bit / 8] ^= 1 << (bit % 8);
        let decoded = codec().decode_frame(&mut wire);
        prop_assert!(!matches!(decoded, Ok(Some(_))), "bit {bit}: {decoded:?}");
    }

    #[test]
    fn whole_messages_round_trip(message in message()) {
        let bytes = codec().encode_message(&message).unwrap();
        prop_assert_eq!(codec().decode_message(bytes.clone()).unwrap(), message);
        let longer = Bytes::from([&bytes[..], b"!"].concat());
        let refused = codec().decode_message(longer);
        prop_assert!(matches!(refused, Err(TwoPartError::TrailingBytes { count: 1 })), "{refused:?}");
    }

    #[test]
    fn envelopes_survive_any_split(
        envelopes in vec((any::<u16>(), part(300)), 0..6),
        step in 1usize..40,
    ) {
        let (mut codec, mut wire) = (EnvelopeCodec::default(), BytesMut::new());
        let envelopes: Vec<_> = envelopes.into_iter().map(|(kind, part)| Envelope::new(kind, part)).collect();
        for envelope in &envelopes {
            codec.encode_frame(envelope, &mut wire).unwrap();
        }
        let (mut buffer, mut decoded) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(envelope) = codec.decode_frame(&mut buffer).unwrap() {
                decoded.push(envelope);
            }
        }
        prop_assert_eq!(decoded, envelopes);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn arbitrary_envelopes_stay_within_bounds(
        tail in vec(any::<u8>(), 0..400),
        magic in any::<bool>(),
        size in any::<u32>(),
    ) {
        let mut bytes = Vec::new();
        if magic {
            bytes.extend_from_slice(b"SNEW\x00\x01\x00\x05");
            bytes.extend_from_slice(&size.to_be_bytes());
        }
        bytes.extend_from_slice(&tail);
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut codec = EnvelopeCodec::new(usize::MAX);
        while let Ok(Some(envelope)) = codec.decode_frame(&mut buffer) {
            prop_assert!(envelope.payload.len() <= bytes.len());
        }
        prop_assert!(buffer.capacity() <= 2 * bytes.len() + 64 * 1024 + 64);
    }
}

// A frame that declares 1 TiB and sends 8 MiB of it, read by read.
#[test]
fn a_slow_terabyte_costs_what_it_sends() {
    let mut codec = TwoPartCodec::new(usize::MAX);
    let mut buffer = BytesMut::new();
    buffer.extend_from_slice(&0u64.to_be_bytes());
    buffer.extend_from_slice(&(1u64 << 40).to_be_bytes());
    buffer.extend_from_slice(&[0; 8]);
    let piece = vec![0u8; 16 * 1024];
    for _ in 0..512 {
        assert!(codec.decode_frame(&mut buffer).unwrap().is_none());
        assert!(buffer.capacity() <= 2 * buffer.len() + 64 * 1024 + 64, "{}", buffer.capacity());
        buffer.extend_from_slice(&piece);
    }
}
