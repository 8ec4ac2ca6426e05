//! The tokio-util traits, driven by `Framed` over an in-memory pipe.

use futures_util::{SinkExt, StreamExt};
use sinew_codec::{
    Envelope, EnvelopeCodec, EnvelopeError, TwoPartCodec, TwoPartError, TwoPartMessage,
};
use tokio::io::AsyncWriteExt;
use tokio_util::codec::Framed;

/// Smaller than any frame below, so that every frame crosses it in several reads.
const PIPE_BYTES: usize = 17;

#[tokio::test]
async fn two_part_frames_cross_a_narrow_pipe() {
    let messages = [
        TwoPartMessage::from_parts("{\"id\":1}", vec![9u8; 1000]),
        TwoPartMessage::empty(),
        TwoPartMessage::from_header("\"sentinel\""),
    ];
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let mut sender = Framed::new(near, TwoPartCodec::default());
    let receiver = Framed::new(far, TwoPartCodec::default());
    let send = async {
        for message in messages.clone() {
            sender.send(message).await.unwrap();
        }
        sender.close().await.unwrap();
    };
    let ((), received) = tokio::join!(send, receiver.map(Result::unwrap).collect::<Vec<_>>());
    assert_eq!(received, messages);
}

#[tokio::test]
async fn the_end_of_the_stream_inside_a_frame_is_an_error() {
    let whole = TwoPartCodec::default().encode_message(&TwoPartMessage::from_data("body")).unwrap();
    let (mut near, far) = tokio::io::duplex(64);
    near.write_all(&whole).await.unwrap();
    near.write_all(&whole[..26]).await.unwrap();
    drop(near);
    let mut receiver = Framed::new(far, TwoPartCodec::default());
    assert_eq!(receiver.next().await.unwrap().unwrap().body, "body");
    let end = receiver.next().await.unwrap();
    assert!(matches!(end, Err(TwoPartError::Truncated { received: 26, expected: Some(28) })));
    assert!(receiver.next().await.is_none());
}

// B-A20: the verdict comes although the peer keeps the connection open and waits.
#[tokio::test]
async fn a_short_foreign_line_is_answered_at_once() {
    let (mut near, far) = tokio::io::duplex(64);
    near.write_all(b"SSH-2.0-x").await.unwrap();
    let mut receiver = Framed::new(far, TwoPartCodec::default());
    let error = receiver.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("an SSH banner"), "{error}");
    drop(near);
}

#[tokio::test]
async fn envelopes_cross_a_narrow_pipe_and_end_cleanly_or_not() {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let mut sender = Framed::new(near, EnvelopeCodec::default());
    let mut receiver = Framed::new(far, EnvelopeCodec::default());
    let send = async {
        sender.send(Envelope::new(4, vec![1u8; 100])).await.unwrap();
        let mut pipe = sender.into_inner();
        pipe.write_all(b"SNEW").await.unwrap();
        drop(pipe);
    };
    let receive = async {
        assert_eq!(receiver.next().await.unwrap().unwrap().payload.len(), 100);
        let end = receiver.next().await.unwrap();
        assert!(matches!(end, Err(EnvelopeError::Truncated { received: 4 })), "{end:?}");
    };
    tokio::join!(send, receive);
}
