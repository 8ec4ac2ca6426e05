//! The codec alone: two-part frames over any tokio stream, and nothing else of Sinew.
//!
//! ```sh
//! cargo run -p sinew --example pick_one_crate
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sinew::layers::codec::{TwoPartCodec, TwoPartMessage, TwoPartMessageType};
use tokio_util::codec::Framed;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (one, other) = tokio::io::duplex(1024);
    let mut sender = Framed::new(one, TwoPartCodec::new(1 << 20));
    let mut receiver = Framed::new(other, TwoPartCodec::new(1 << 20));

    let header = Bytes::from_static(br#"{"id":"42"}"#);
    let body = Bytes::from_static(b"payload");
    sender.send(TwoPartMessage::from_parts(header, body)).await?;
    drop(sender);

    while let Some(message) = receiver.next().await {
        match message?.into_message_type() {
            TwoPartMessageType::HeaderOnly(header) => println!("control: {header:?}"),
            TwoPartMessageType::DataOnly(body) => println!("data: {body:?}"),
            TwoPartMessageType::HeaderAndData(header, body) => println!("{header:?} {body:?}"),
            TwoPartMessageType::Empty => println!("heartbeat"),
        }
    }
    Ok(())
}
