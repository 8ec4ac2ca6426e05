//! The checks of frames over real sockets, with a way between the two ends that changes a byte.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_codec::ChecksumMode::{self, Off, Verify, Write};
use sinew_dynamo_wire::TcpStreamConnectionInfo;
use sinew_plane::{
    Address, Code, DuplexTransport, Error, IncomingRequest, InstanceId, Origin, Outcome,
    OutgoingRequest, ResponsePlaneClient, ResponsePlaneServer, ResponseRegistration, ResponseSink,
};
use sinew_plane_call_home::{TcpStreamClientConfig, TcpStreamServerConfig};
use sinew_transport_tcp::{CheckedTcpConfig, TcpConfig, TcpServer, TcpTransport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::{
    delivery::{arrived, caller, drain, plain, worker},
    fixture::soon,
};

/// What changes on the way, and what is left of it then.
const SENT: &[u8] = b"a whole body";
const ARRIVED: &[u8] = b"a whale body";

/// What changes.
#[derive(Clone, Copy, PartialEq)]
enum Damage {
    None,
    /// What the side that dials sends.
    Out,
    /// What comes back to it.
    Back,
}

/// Passes on what `from` sends, with [`SENT`] changed where it stands in one read.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, damages: bool) {
    let mut chunk = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let bytes = &mut chunk[..read];
        if damages && let Some(at) = bytes.windows(SENT.len()).position(|part| part == SENT) {
            bytes[at..at + SENT.len()].copy_from_slice(ARRIVED);
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Where to dial to reach `target` over a way with this damage. One connection is taken.
async fn way_to(target: SocketAddr, damage: Damage) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(target).await.unwrap();
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
        tokio::join!(
            pass(from_near, to_far, damage == Damage::Out),
            pass(from_far, to_near, damage == Damage::Back),
        );
    });
    address
}

fn config(frame_checks: Option<ChecksumMode>) -> CheckedTcpConfig {
    let mut config = TcpConfig::default();
    let writes = matches!(frame_checks, Some(Write | Verify));
    config.driver.mux.check_frames(writes, frame_checks != Some(Write));
    config.checked().unwrap()
}

/// A call of the mux over such a way: how often its handler ran, and what its caller got.
async fn call(
    ours: Option<ChecksumMode>,
    theirs: Option<ChecksumMode>,
    damage: Damage,
) -> (usize, Result<Bytes, Error>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let handler = move |request: IncomingRequest<'_>, mut sink: ResponseSink| {
        counted.fetch_add(1, Ordering::Relaxed);
        let body = request.body;
        tokio::spawn(async move {
            if sink.send(body).await.is_ok() {
                sink.complete();
            }
        });
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let server = TcpServer::bind(config(theirs), any, Arc::new(handler)).unwrap();
    let target = server.local_address().unwrap();
    let client = TcpTransport::new(config(ours));
    let way = Address::tcp(way_to(target, damage).await);
    let request =
        OutgoingRequest::new("test/tcp/echo".parse().unwrap(), InstanceId(0), SENT.into());
    let got = match soon("the request to leave", client.open(&way, request)).await {
        Ok(mut stream) => soon("an item", stream.next()).await.unwrap(),
        Err(error) => Err(error),
    };
    (runs.load(Ordering::Relaxed), got)
}

#[tokio::test]
async fn what_is_whole_passes_whatever_the_two_ends_check() {
    let all = [None, Some(Off), Some(Write), Some(Verify)];
    for (ours, theirs) in all.into_iter().flat_map(|ours| all.map(|theirs| (ours, theirs))) {
        let (runs, got) = call(ours, theirs, Damage::None).await;
        assert_eq!((runs, &*got.unwrap()), (1, SENT), "{ours:?}, {theirs:?}");
    }
}

#[tokio::test]
async fn a_damaged_request_does_not_run_where_its_worker_verifies() {
    for (ours, theirs) in [
        (Some(Write), Some(Verify)),
        (Some(Verify), Some(Verify)),
        // Verified at one end, written at both.
        (Some(Off), Some(Verify)),
        (Some(Write), None),
    ] {
        let (runs, got) = call(ours, theirs, Damage::Out).await;
        assert_eq!(runs, 0, "{ours:?}, {theirs:?}");
        let error = got.unwrap_err();
        assert_eq!(error.code(), Code::ConnectionLost, "{ours:?}, {theirs:?}: {error}");
    }
    for (ours, theirs) in [
        (None, None),
        (Some(Off), Some(Off)),
        (Some(Write), Some(Write)),
        (Some(Verify), Some(Write)),
    ] {
        let (runs, got) = call(ours, theirs, Damage::Out).await;
        assert_eq!((runs, &*got.unwrap()), (1, ARRIVED), "{ours:?}, {theirs:?}");
    }
}

#[tokio::test]
async fn a_damaged_item_is_found_where_its_caller_verifies() {
    for (ours, theirs) in
        [(Some(Verify), Some(Write)), (Some(Verify), Some(Off)), (None, Some(Write))]
    {
        let (runs, got) = call(ours, theirs, Damage::Back).await;
        assert_eq!(runs, 1, "{ours:?}, {theirs:?}");
        let error = got.unwrap_err();
        assert!(!error.is_safe_to_resend(), "{ours:?}, {theirs:?}: {error}");
    }
    for (ours, theirs) in [(Some(Write), Some(Verify)), (Some(Off), Some(Off)), (None, None)] {
        let (runs, got) = call(ours, theirs, Damage::Back).await;
        assert_eq!((runs, &*got.unwrap()), (1, ARRIVED), "{ours:?}, {theirs:?}");
    }
}

/// A response in two-part frames over such a way: its items and its end.
async fn response(
    worker_checks: Option<ChecksumMode>,
    caller_checks: Option<ChecksumMode>,
    damage: Damage,
) -> (Vec<Bytes>, Outcome) {
    let caller =
        caller(TcpStreamServerConfig { frame_checks: caller_checks, ..Default::default() });
    let worker = worker(TcpStreamClientConfig { frame_checks: worker_checks, ..plain() });
    let registration = caller.register(&crate::delivery::request()).unwrap();
    let ResponseRegistration { connection_info, stream } = registration;
    let mut info = TcpStreamConnectionInfo::from_text(&connection_info).unwrap();
    info.address = way_to(caller.local_address(), damage).await.to_string();
    let info = info.to_text();
    let dialled = worker.connect(&info, Origin::SameHost, arrived(&info));
    let mut sink = soon("the dial back", dialled).await.unwrap();
    sink.send(Bytes::from_static(SENT)).await.unwrap();
    sink.complete();
    drain(stream).await
}

#[tokio::test]
async fn a_damaged_two_part_frame_is_found_where_one_end_writes_and_the_other_verifies() {
    for worker in [None, Some(Off), Some(Write), Some(Verify)] {
        for caller in [None, Some(Off), Some(Write), Some(Verify)] {
            let is_found =
                matches!(worker, Some(Write | Verify)) && matches!(caller, None | Some(Verify));
            let case = format!("worker {worker:?}, caller {caller:?}");
            let (items, outcome) = response(worker, caller, Damage::None).await;
            assert_eq!(items, [SENT], "{case}: {outcome:?}");
            let (items, outcome) = response(worker, caller, Damage::Out).await;
            if is_found {
                assert!(items.is_empty(), "{case}: {items:?}");
                assert!(!matches!(outcome, Outcome::Complete { .. }), "{case}: {outcome:?}");
            } else {
                assert_eq!(items, [ARRIVED], "{case}");
                assert!(matches!(outcome, Outcome::Complete { items: 1 }), "{case}: {outcome:?}");
            }
        }
    }
}
