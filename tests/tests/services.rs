//! The services that `cargo xtask test` starts are the real ones, and answer.
#![cfg(feature = "services")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

fn service(variable: &str, scheme: &str) -> String {
    let url = std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run the tests with `cargo xtask test`, which starts it")
    });
    url.strip_prefix(scheme).unwrap_or(&url).to_owned()
}

#[tokio::test]
async fn etcd_is_healthy() {
    let address = service("SINEW_TEST_ETCD", "http://");
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /health HTTP/1.0\r\nhost: {address}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("\"health\":\"true\""), "{answer}");
}

#[tokio::test]
async fn nats_says_who_it_is() {
    let address = service("SINEW_TEST_NATS", "nats://");
    let mut lines = BufReader::new(TcpStream::connect(&address).await.unwrap()).lines();
    let info = lines.next_line().await.unwrap().unwrap();
    assert!(info.starts_with("INFO {") && info.contains("\"version\""), "{info}");
}
