//! Ends of connections while much is under way: nothing is lost, nothing is wrong, nothing hangs.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_plane::{
    CancelReason, Code, Context, DuplexServer, DuplexTransport, Executed, IncomingRequest, Outcome,
    ResponseSink, StopKind,
};
use sinew_transport_tcp::{TcpConfig, TcpServer, TcpTransport};
use tokio::net::TcpListener;

use crate::fixture::{client, config, driver, echo, open, request, server, soon, tcp_address};

/// Sends 40 items of 40,000 bytes, each filled with its own number.
fn numbered(_: IncomingRequest<'_>, mut sink: ResponseSink) {
    tokio::spawn(async move {
        for number in 0..40_u8 {
            if sink.send(Bytes::from(vec![number; 40_000])).await.is_err() {
                return;
            }
        }
        sink.complete();
    });
}

struct Unix {
    server: TcpServer,
    client: TcpTransport,
    _dir: tempfile::TempDir,
}

/// Over a Unix socket, whose small buffer is full most of the time.
fn unix(handler: impl Fn(IncomingRequest<'_>, ResponseSink) + Send + Sync + 'static) -> Unix {
    let dir = tempfile::tempdir().unwrap();
    let config = TcpConfig { unix_dir: Some(dir.path().join("sockets")), ..config() };
    let client = TcpTransport::unix(config.clone().checked().unwrap());
    Unix { server: server(config, handler), client, _dir: dir }
}

/// Reads to the end; panics at an item that is not what was sent.
async fn read(client: TcpTransport, address: sinew_plane::Address) -> Outcome {
    let Ok(mut response) = client.open(&address, request("")).await else {
        return Outcome::Truncated { received: 0 }; // the end came before it
    };
    let mut number = 0_u8;
    while let Some(Ok(item)) = response.next().await {
        let whole = item.len() == 40_000 && item.iter().all(|byte| *byte == number);
        assert!(whole, "item {number} has {} bytes, not all its own", item.len());
        number += 1;
    }
    response.outcome().unwrap().clone()
}

/// I2: what was cut in the middle of a write is not completed with other bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abrupt_end_delivers_no_wrong_item() {
    for _ in 0..20 {
        let unix = unix(numbered);
        let address = unix.server.addresses().remove(0);
        let reads: Vec<_> =
            (0..8).map(|_| tokio::spawn(read(unix.client.clone(), address.clone()))).collect();
        let mut first = open(&unix.client, &address, "").await.unwrap();
        soon("an item", first.next()).await.unwrap().unwrap();
        soon("the server to end", unix.server.shutdown(Duration::ZERO)).await;
        for read in reads {
            let Ok(outcome) = soon("a reader", read).await else { panic!("a wrong item") };
            assert!(matches!(
                outcome,
                Outcome::Complete { items: 40 }
                    | Outcome::Truncated { .. }
                    | Outcome::Failed { .. }
            ));
        }
    }
}

/// Streams that ended within the grace are whole at their callers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_end_delivers_everything() {
    for _ in 0..10 {
        let unix = unix(numbered);
        let address = unix.server.addresses().remove(0);
        let mut started = Vec::new();
        for _ in 0..10 {
            let mut response = open(&unix.client, &address, "").await.unwrap();
            soon("the handler", response.started()).await.unwrap();
            started.push(tokio::spawn(async move { response.count().await }));
        }
        let cut = soon("the server to end", unix.server.shutdown(Duration::from_secs(20))).await;
        assert_eq!(cut.cut_streams, 0);
        for response in started {
            assert_eq!(soon("a reader", response).await.unwrap(), 40);
        }
    }
}

/// Clients that come while the server ends must not keep it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_ends_while_clients_keep_coming() {
    for _ in 0..30 {
        let server = server(config(), echo);
        let address = tcp_address(&server);
        let storms: Vec<_> = (0..4)
            .map(|_| {
                let address = address.clone();
                tokio::spawn(async move {
                    loop {
                        let client = client(config());
                        if client.open(&address, request("x")).await.is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        let first = client(config());
        open(&first, &address, "x").await.unwrap();
        soon("the server to end", server.shutdown(Duration::ZERO)).await;
        for storm in storms {
            soon("a client to give up", storm).await.unwrap();
        }
    }
}

/// Credit and cancels that cross the end of their stream are ordinary, at any rate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crossing_messages_never_end_a_connection() {
    let large = |_: IncomingRequest<'_>, mut sink: ResponseSink| {
        tokio::spawn(async move {
            // Over half a window, so that the reader grants credit, which finds the stream gone.
            if sink.send(Bytes::from(vec![0; 150_000])).await.is_ok() {
                sink.complete();
            }
        });
    };
    let server = server(config(), large);
    let (client, address) = (client(config()), tcp_address(&server));
    let calls = (0..8).map(|_| {
        let (client, address) = (client.clone(), address.clone());
        tokio::spawn(async move {
            for _ in 0..1_000 {
                let mut response = client.open(&address, request("")).await.unwrap();
                assert_eq!(response.next().await.unwrap().unwrap().len(), 150_000);
                assert!(response.next().await.is_none());
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        tokio::time::timeout(Duration::from_secs(60), call).await.unwrap().unwrap();
    }
    assert_eq!(server.connections(), 1);
}

/// A connection that said goodbye and still carries a stream is ended with its client too.
#[tokio::test]
async fn a_client_closes_connections_that_have_retired() {
    let kept = crate::fixture::Keep::default();
    let server = server(config(), kept.handler());
    let (client, address) = (client(config()), crate::gate::passing_one(&server).await);
    let mut response = open(&client, &address, "x").await.unwrap();
    soon("the handler", response.started()).await.unwrap();
    server.drain();
    let refused = async {
        while let Ok(mut response) = client.open(&address, request("y")).await {
            // Refused by the server, which has said goodbye before.
            assert!(response.started().await.is_err());
        }
    };
    soon("the goodbye to arrive", refused).await;
    let cut = soon("the client to close", client.close(Duration::from_millis(10))).await;
    assert_eq!(cut.cut_streams, 1);
}

/// The wait for a connection is part of the request's time.
#[tokio::test]
async fn a_deadline_and_a_cancel_bound_the_dial_and_leave_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = sinew_plane::Address::tcp(silent.local_addr().unwrap());
    let client = client(driver(|it| it.handshake_timeout = Duration::from_secs(600)));
    let hurried = Context::builder().timeout(Duration::from_millis(20)).build();
    let late = client.open(&address, request("").with_context(hurried));
    let error = soon("the deadline", late).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::No));

    for (reason, code) in [
        (CancelReason::Caller, Code::Cancelled),
        (CancelReason::DeadlineExceeded, Code::DeadlineExceeded),
    ] {
        let context = Context::new();
        let request = request("").with_context(context.clone());
        let mut waiting = std::pin::pin!(client.open(&address, request));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending(), "nobody answers");
        context.cancel(StopKind::Stop, reason);
        let error = soon("the cancel", waiting).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (code, Executed::No));
    }
    // Whatever was dialled is closed again, so a close has nothing to wait for.
    soon("the client to close", client.close(Duration::from_secs(600))).await;
}

/// A handler that has begun says so at once, with nothing else to send.
#[tokio::test]
async fn an_accept_does_not_wait_for_an_item() {
    let quiet = |_: IncomingRequest<'_>, mut sink: ResponseSink| {
        tokio::spawn(async move {
            sink.accept();
            sink.context().killed().await;
        });
    };
    let server = server(config(), quiet);
    let (client, address) = (client(config()), tcp_address(&server));
    let mut response = open(&client, &address, "").await.unwrap();
    let begun = std::time::Instant::now();
    soon("the handler to begin", response.started()).await.unwrap();
    // Far below the keep-alive ping, which would carry it along.
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_short_keepalive_connects_too() {
    let mut quick = config();
    quick.driver.mux.keepalive_interval = Duration::from_millis(400);
    quick.driver.mux.keepalive_timeout = Duration::from_secs(1);
    let server = server(quick.clone(), echo);
    let client = client(quick);
    let mut response = open(&client, &tcp_address(&server), "hi").await.unwrap();
    assert_eq!(soon("the echo", response.next()).await.unwrap().unwrap(), "hi");
}

/// A handler without a deadline watcher of its own is woken by its context.
#[tokio::test]
async fn a_cancelled_context_wakes_a_producer_that_waits_for_credit() {
    let (told, mut end) = tokio::sync::mpsc::unbounded_channel();
    let told = Arc::new(told);
    let endless = move |_: IncomingRequest<'_>, mut sink: ResponseSink| {
        let told = Arc::clone(&told);
        tokio::spawn(async move {
            let _ = told.send(sink.context().clone());
            while sink.send(Bytes::from_static(b"x")).await.is_ok() {}
            let _ = told.send(Context::new());
        });
    };
    let server = server(config(), endless);
    let (client, address) = (client(config()), tcp_address(&server));
    let mut unread = open(&client, &address, "").await.unwrap();
    soon("the handler", unread.started()).await.unwrap();
    let context = soon("its context", end.recv()).await.unwrap();
    context.kill();
    soon("the handler to end", end.recv()).await.unwrap();
}

/// A dial goes on when the request that began it gives up: the next one finds it done.
#[tokio::test]
async fn a_slow_dial_serves_the_next_request() {
    let server = server(config(), echo);
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = sinew_plane::Address::tcp(slow.local_addr().unwrap());
    let behind = server.local_address().unwrap();
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let accepting = tokio::spawn(async move {
        let (mut near, _) = slow.accept().await.unwrap();
        wait.await.unwrap();
        let mut far = tokio::net::TcpStream::connect(behind).await.unwrap();
        // A second dial would never be accepted.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    let client = client(config());
    let hurried = Context::builder().timeout(Duration::from_millis(20)).build();
    let error = client.open(&address, request("").with_context(hurried)).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    go.send(()).unwrap();
    let mut response = open(&client, &address, "hi").await.unwrap();
    assert_eq!(soon("the echo", response.next()).await.unwrap().unwrap(), "hi");
    accepting.abort();
}

/// A request that was read together with others is not served once its connection is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_served_behind_the_close() {
    let (entered, mut has_entered) = tokio::sync::mpsc::unbounded_channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let served = Arc::new(std::sync::Mutex::new(Vec::new()));
    let contexts = Arc::clone(&served);
    let block = move |_: IncomingRequest<'_>, sink: ResponseSink| {
        contexts.lock().unwrap().push(sink.context().clone());
        let _ = entered.send(());
        // Holds the reader, as no handler may; here it makes room for the close.
        let _ = released.lock().unwrap().recv();
        drop(sink);
    };
    let server = server(config(), block);
    let (client, address) = (client(config()), tcp_address(&server));
    // The first fills the dial; the rest gather behind it and are read together.
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (client, address) = (client.clone(), address.clone());
            tokio::spawn(async move { client.open(&address, request("")).await?.started().await })
        })
        .collect();
    soon("a handler", has_entered.recv()).await.unwrap();
    drop(server);
    drop(release);
    for call in calls {
        soon("a call to end", call).await.unwrap().unwrap_err();
    }
    for context in served.lock().unwrap().iter() {
        assert!(context.is_killed(), "a request was served that nobody ends");
    }
}
