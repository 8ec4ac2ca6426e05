//! Where and how a proxy cuts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use super::*;
use crate::within;

/// A server that says `a` for ever to each client, and a proxy in front of it.
async fn proxied(cuts: Cuts) -> CuttingProxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Address::tcp(listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move { while socket.write_all(b"a").await.is_ok() {} });
        }
    });
    CuttingProxy::start(Listen::loopback(), target, cuts).await.unwrap()
}

/// The bytes that come, and how they end.
async fn read(proxy: &CuttingProxy) -> (usize, io::Result<()>) {
    let mut socket = TcpStream::connect(proxy.address().rest()).await.unwrap();
    let mut bytes = Vec::new();
    let ended = within("the cut", socket.read_to_end(&mut bytes)).await;
    (bytes.len(), ended.map(drop))
}

#[tokio::test]
async fn a_connection_is_cut_behind_the_byte_that_was_asked_for() {
    let proxy = proxied(Cuts::when_told()).await;
    proxy.cut_next_after(1_000, Cut::Fin);
    let (bytes, ended) = read(&proxy).await;
    assert_eq!(bytes, 1_000);
    ended.unwrap();
    proxy.cut_next_after(0, Cut::Reset);
    let (bytes, ended) = read(&proxy).await;
    assert_eq!((bytes, ended.unwrap_err().kind()), (0, io::ErrorKind::ConnectionReset));
    let log = proxy.take_log();
    let told: Vec<_> = log.iter().map(|cut| (cut.connection, cut.how, cut.bytes)).collect();
    assert_eq!(told, [(0, Cut::Fin, 1_000), (1, Cut::Reset, 0)]);
    assert_eq!((proxy.made(), proxy.take_log().len()), (2, 0));
}

#[tokio::test]
async fn the_same_seed_cuts_in_the_same_places() {
    let mut places = Vec::new();
    for seed in [7, 7, 8] {
        let proxy = proxied(Cuts::every(500, seed)).await;
        let mut of_run = Vec::new();
        for _ in 0..40 {
            of_run.push(read(&proxy).await.0);
        }
        // What a reset takes away is not read, so the log tells.
        places.push(proxy.take_log().iter().map(|cut| cut.bytes).collect::<Vec<_>>());
    }
    assert_eq!(places[0], places[1]);
    assert_ne!(places[0], places[2]);
    let mean = places[0].iter().sum::<u64>() / 40;
    assert!((300..700).contains(&mean), "{mean}");
    assert!(places[0].iter().all(|bytes| (1..=1_000).contains(bytes)), "{:?}", places[0]);
}

#[tokio::test]
async fn a_silent_connection_stays_open_until_it_is_cut() {
    let proxy = proxied(Cuts::when_told()).await;
    proxy.cut_next_after(10, Cut::Silence);
    let mut socket = TcpStream::connect(proxy.address().rest()).await.unwrap();
    let mut bytes = [0; 10];
    within("the bytes before", socket.read_exact(&mut bytes)).await.unwrap();
    let silent = socket.read(&mut bytes);
    // tidy-allow: sleep, that nothing comes takes some time to see
    assert!(tokio::time::timeout(Duration::from_millis(50), silent).await.is_err());
    (&proxy as &dyn Way).cut(Cut::Fin);
    assert_eq!(within("the end", socket.read(&mut bytes)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_held_connection_passes_on_what_waits_once_it_is_released() {
    let proxy = proxied(Cuts::when_told()).await;
    proxy.hold();
    let mut socket = TcpStream::connect(proxy.address().rest()).await.unwrap();
    let mut bytes = [0; 10];
    let held = socket.read_exact(&mut bytes);
    // tidy-allow: sleep, that nothing comes takes some time to see
    assert!(tokio::time::timeout(Duration::from_millis(50), held).await.is_err());
    proxy.release();
    within("what waited", socket.read_exact(&mut bytes)).await.unwrap();
}

#[tokio::test]
async fn either_side_may_be_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let (behind, before) = (folder.path().join("behind"), folder.path().join("before"));
    let listener = UnixListener::bind(&behind).unwrap();
    let target = Address::new("unix", behind.to_str().unwrap()).unwrap();
    let echo = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut byte = [0];
            socket.read_exact(&mut byte).await.unwrap();
            socket.write_all(&byte).await.unwrap();
        }
    });
    let cuts = Cuts::when_told;
    let unix = CuttingProxy::start(Listen::Unix(before.clone()), target.clone(), cuts());
    let unix = unix.await.unwrap();
    assert_eq!(unix.address().as_str(), format!("unix://{}", before.display()));
    let mut socket = UnixStream::connect(unix.address().rest()).await.unwrap();
    socket.write_all(b"x").await.unwrap();
    assert_eq!(within("the echo", socket.read_u8()).await.unwrap(), b'x');
    let tcp = CuttingProxy::start(Listen::loopback(), target, cuts()).await.unwrap();
    assert_eq!(tcp.address().scheme(), "tcp");
    let mut socket = TcpStream::connect(tcp.address().rest()).await.unwrap();
    socket.write_all(b"y").await.unwrap();
    assert_eq!(within("the echo", socket.read_u8()).await.unwrap(), b'y');
    within("the echo to end", echo).await.unwrap();
}

/// A connection that closes by itself is not cut, and its end is passed on.
#[tokio::test]
async fn a_server_that_ends_its_connection_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Address::tcp(listener.local_addr().unwrap());
    let proxy = CuttingProxy::start(Listen::loopback(), target, Cuts::when_told()).await.unwrap();
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"last words").await.unwrap();
    });
    let (bytes, ended) = read(&proxy).await;
    assert_eq!(bytes, 10);
    ended.unwrap();
    within("the server to end", serving).await.unwrap();
    assert!(proxy.take_log().is_empty());
}
