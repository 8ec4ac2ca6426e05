//! Connections that go away and come back, and servers that end in order.

use std::time::Duration;

use futures_util::StreamExt;
use sinew_plane::{
    Address, CancelReason, Code, DuplexServer, DuplexTransport, Executed, Outcome, ProcessId,
};
use sinew_transport_tcp::{TcpConfig, TcpServer, TcpTransport};

use crate::fixture::{
    Keep, client, config, driver, echo, listen, open, request, server, soon, tcp_address,
};

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let config = driver(|it| it.backoff_max = Duration::from_millis(50));
    let first = server(config.clone(), echo);
    let address = tcp_address(&first);
    let bound = first.local_address().unwrap();
    let client = client(config.clone());
    let mut response = open(&client, &address, "one").await.unwrap();
    assert_eq!(soon("the echo", response.next()).await.unwrap().unwrap(), "one");
    soon("the server to end", first.shutdown(Duration::ZERO)).await;

    let error = open(&client, &address, "two").await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectFailed, Executed::No));

    let _second =
        TcpServer::bind(config.checked().unwrap(), bound, std::sync::Arc::new(echo)).unwrap();
    let answer = soon("the server to be found again", async {
        loop {
            match client.open(&address, request("three")).await {
                Ok(mut response) => return response.next().await.unwrap().unwrap(),
                Err(error) => assert!(error.is_safe_to_resend(), "{error:?}"),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(answer, "three");
}

#[tokio::test]
async fn while_dials_fail_callers_are_told_at_once() {
    let config = driver(|it| {
        it.backoff_base = Duration::from_secs(60);
        it.backoff_max = Duration::from_secs(60);
    });
    let server = server(config.clone(), echo);
    let address = tcp_address(&server);
    soon("the server to end", server.shutdown(Duration::ZERO)).await;
    let client = client(config);
    let mut remembered = 0;
    // The first dials, the others share its answer.
    for _ in 0..1_000 {
        let error = open(&client, &address, "x").await.unwrap_err();
        assert_eq!(error.code(), Code::ConnectFailed);
        remembered += usize::from(error.is_remembered());
    }
    assert_eq!(remembered, 999);
}

#[tokio::test]
async fn many_first_callers_share_one_connection() {
    let server = server(config(), echo);
    let address = tcp_address(&server);
    let client = client(config());
    let calls = (0..64).map(|_| {
        let (client, address) = (client.clone(), address.clone());
        tokio::spawn(async move {
            let mut response = client.open(&address, request("x")).await.unwrap();
            response.next().await.unwrap().unwrap()
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(soon("a call", call).await.unwrap(), "x");
    }
    assert_eq!((client.connections(), server.connections()), (1, 1));
}

#[tokio::test]
async fn a_connection_is_made_without_a_request() {
    let keep = Keep::default();
    let server = server(config(), keep.handler());
    let (client, address) = (client(config()), tcp_address(&server));
    assert!(client.open_now(&address, &request("x")).is_none(), "nothing is up yet");
    soon("the connection", client.connect(&address).unwrap()).await.unwrap();
    assert!(client.connect(&address).is_none(), "it is up");
    assert!(keep.0.lock().unwrap().is_empty());
    let mut response = client.open_now(&address, &request("x")).unwrap().unwrap();
    soon("the start", response.started()).await.unwrap();
    assert_eq!((client.connections(), keep.0.lock().unwrap().len()), (1, 1));
}

/// A stopped process completes a connect and says nothing.
#[tokio::test]
async fn a_transport_ends_without_waiting_for_a_dial() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", silent.local_addr().unwrap()).parse().unwrap();
    let long = Duration::from_secs(600);
    let client = client(driver(|it| it.handshake_timeout = long));
    let connecting = client.connect(&address).unwrap();
    let (dialled, _) = tokio::join!(soon("the end of the dial", connecting), async {
        let peer = soon("the dial", silent.accept()).await.unwrap();
        soon("the transport to end", client.close(Duration::ZERO)).await;
        peer
    });
    assert!(dialled.unwrap_err().is_safe_to_resend());
}

#[tokio::test]
async fn the_unix_socket_beside_the_port_serves_too() {
    let dir = tempfile::tempdir().unwrap();
    let config = TcpConfig { unix_dir: Some(dir.path().join("sockets")), ..config() };
    let server = server(config.clone(), echo);
    let addresses = server.addresses();
    assert_eq!(addresses.iter().map(|a| a.scheme()).collect::<Vec<_>>(), ["unix", "tcp"]);
    let client = TcpTransport::unix(config.checked().unwrap());
    assert!(client.dials(&addresses[0]) && !client.dials(&addresses[1]));
    let mut response = open(&client, &addresses[0], "short way").await.unwrap();
    assert_eq!(soon("the echo", response.next()).await.unwrap().unwrap(), "short way");
    let path = std::path::PathBuf::from(addresses[0].rest());
    assert!(path.exists());
    soon("the server to end", server.shutdown(Duration::ZERO)).await;
    assert!(!path.exists(), "the socket file goes with its server");
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_handlers() {
    let kept = Keep::default();
    let server = server(config(), kept.handler());
    let address = tcp_address(&server);
    let client = client(config());
    let mut response = open(&client, &address, "x").await.unwrap();
    soon("the handler to begin", response.started()).await.unwrap();
    let context = kept.0.lock().unwrap()[0].context().clone();
    let cut = soon("the client to close", client.close(Duration::ZERO)).await;
    assert_eq!(cut.cut_streams, 1);
    soon("the handler to be told", context.killed()).await;
    assert_eq!(context.reason(), Some(CancelReason::Disconnected));
    let end = soon("the end", response.next()).await.unwrap().unwrap_err();
    assert_eq!(end.code(), Code::Truncated);
    assert!(matches!(response.outcome(), Some(Outcome::Truncated { received: 0 })));
}

#[tokio::test]
async fn the_advertised_address_is_not_the_bound_one() {
    for (advertise, expected) in [
        ("worker.example", "tcp://worker.example:PORT"),
        ("worker.example:99", "tcp://worker.example:99"),
        ("[2001:db8::1]", "tcp://[2001:db8::1]:PORT"),
        ("[2001:db8::1]:99", "tcp://[2001:db8::1]:99"),
    ] {
        let server = server(listen(|it| it.advertise = Some(advertise.into())), echo);
        let port = server.local_address().unwrap().port().to_string();
        assert_eq!(tcp_address(&server).as_str(), expected.replace("PORT", &port));
    }
}

/// The port of a dead worker may be somebody else's by now.
#[tokio::test]
async fn another_process_at_the_address_is_noticed_before_anything_is_sent() {
    let wrong = Err(Code::WrongPeer);
    for (theirs, expected, answer) in [
        (7, Some(7), Ok("hi")),
        (7, Some(0), Ok("hi")),
        (7, None, Ok("hi")),
        (7, Some(8), wrong),
        (0, None, Ok("hi")),
        (0, Some(8), wrong),
    ] {
        let mut serving = config();
        serving.driver.mux.process = ProcessId(theirs);
        let server = server(serving, echo);
        let address = tcp_address(&server);
        let client = client(config());
        let mut request = request("hi");
        request.process = expected.map(ProcessId);
        let opened = soon("an answer", client.open(&address, request)).await;
        let answered = match opened {
            Ok(mut response) => Ok(soon("the echo", response.next()).await.unwrap().unwrap()),
            Err(error) => Err((error.code(), error.executed())),
        };
        assert_eq!(answered, answer.map(Into::into).map_err(|code| (code, Executed::No)));
    }
}

#[tokio::test]
async fn an_idle_connection_is_given_up_and_made_again() {
    let mut quick = driver(|it| it.idle_timeout = Duration::from_millis(1));
    quick.driver.mux.keepalive_interval = Duration::from_millis(20);
    let server = server(config(), echo);
    let address = tcp_address(&server);
    let client = client(quick);
    for word in ["one", "two"] {
        let mut response = open(&client, &address, word).await.unwrap();
        assert_eq!(soon("the echo", response.next()).await.unwrap().unwrap(), word);
        drop(response);
        soon("the connection to be given up", async {
            while client.connections() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// Somebody waits for a connection that is being made, however long its peer takes.
#[tokio::test]
async fn a_handshake_may_take_longer_than_a_connection_may_be_idle() {
    let mut quick = driver(|it| it.idle_timeout = Duration::from_millis(1));
    quick.driver.mux.keepalive_interval = Duration::from_millis(20);
    let server = server(config(), echo);
    let place = tcp_address(&server).rest().to_owned();
    let slow = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::tcp(slow.local_addr().unwrap());
    let relayed = tokio::spawn(async move {
        let (mut near, _) = slow.accept().await.unwrap();
        // tidy-allow: sleep, the peer is slow for five looks at the clock
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut far = tokio::net::TcpStream::connect(place).await.unwrap();
        // Ends with the connection, whichever way.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    let client = client(quick);
    let mut response = open(&client, &address, "late").await.unwrap();
    assert_eq!(soon("the echo", response.next()).await.unwrap().unwrap(), "late");
    drop((response, client));
    soon("the relay to end", relayed).await.unwrap();
}

/// Stopped is enough: nothing has to be finished for a request that has not left.
#[tokio::test]
async fn a_request_that_was_stopped_before_it_left_runs_nowhere() {
    let keep = Keep::default();
    let server = server(config(), keep.handler());
    let (client, address) = (client(config()), tcp_address(&server));
    let mut warm = open(&client, &address, "warm").await.unwrap();
    soon("the start", warm.started()).await.unwrap();
    let stopped = request("stopped");
    stopped.context.stop();
    let error = soon("the refusal", client.open(&address, stopped)).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
    let mut next = open(&client, &address, "next").await.unwrap();
    soon("the start", next.started()).await.unwrap();
    assert_eq!(keep.0.lock().unwrap().len(), 2);
}
