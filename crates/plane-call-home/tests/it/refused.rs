//! What a caller was told did not run, and does not.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::poll;
use sinew_dynamo_wire::{SinewOffer, StreamType, TcpStreamConnectionInfo, context_text};
use sinew_plane::{
    Code, Context, Error, Executed, Origin, ResponsePlaneClient, ResponsePlaneServer,
    ResponseRegistration, ResponseSink, StreamId,
};
use sinew_plane_call_home::{TcpStreamClient, TcpStreamClientConfig, TcpStreamServer};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    delivery::{arrived, connect, drain, plain, worker},
    fixture::{soon, until},
    pooled::{pair_for, pooled, pooled_caller, to_worker},
    wire::{READY, RawWorker, header, receive},
};

/// Places that one caller has for questions whose requests have not come.
const SHARE: usize = 4_096;

/// So long that a test which waits for it fails.
const FOR_EVER: Duration = Duration::from_secs(600);

fn patient() -> TcpStreamClient {
    worker(TcpStreamClientConfig { open_timeout: FOR_EVER, ..pooled() })
}

async fn exchange(caller: &TcpStreamServer, worker: &TcpStreamClient) {
    let (stream, mut sink) = pair_for(caller, worker, &to_worker()).await;
    sink.send(Bytes::from("hello")).await.unwrap();
    sink.complete();
    assert_eq!(drain(stream).await.0, ["hello"]);
}

/// As many questions as there are places for, and one more, which is refused.
async fn fill(
    caller: &TcpStreamServer,
    worker: &TcpStreamClient,
) -> (Vec<ResponseRegistration>, ResponseRegistration) {
    exchange(caller, worker).await;
    until("the stream to be over", || worker.pool().streams == 0).await;
    let register = || caller.register(&to_worker()).unwrap();
    let held: Vec<_> = (0..SHARE).map(|_| register()).collect();
    until("the questions", || worker.pool().streams == SHARE).await;
    let mut refused = register();
    let error = soon("the refusal", refused.stream.started()).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));
    (held, refused)
}

async fn dial(worker: &TcpStreamClient, info: &str) -> Result<ResponseSink, Error> {
    soon("the dial", worker.connect(info, Origin::SameHost, arrived(info))).await
}

#[tokio::test]
async fn a_question_that_was_refused_is_never_answered() {
    let (caller, worker) = (pooled_caller(), patient());
    let (_held, refused) = fill(&caller, &worker).await;
    // Its request comes after all, while its caller still looks at the error.
    let error = dial(&worker, &refused.connection_info).await.map(drop).unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
    assert_eq!(caller.connections(), worker.pool().active, "nobody has dialled for it");
}

/// The worker that refused it, or another that has its request, may come over a connection of its
/// own: the caller has gone elsewhere by then.
#[tokio::test]
async fn a_stream_that_was_refused_takes_no_other_connection() {
    let (caller, worker) = (pooled_caller(), patient());
    let (_held, refused) = fill(&caller, &worker).await;
    let mut other = RawWorker::dial(&caller, &refused.connection_info).await;
    assert_eq!(other.control().await.as_deref(), Some("\"kill\""));
    let other = self::worker(plain());
    let error = dial(&other, &refused.connection_info).await.map(drop).unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
}

#[tokio::test]
async fn a_caller_with_all_of_its_places_taken_keeps_nobody_else_out() {
    let (greedy, honest, worker) = (pooled_caller(), pooled_caller(), patient());
    let (held, _refused) = fill(&greedy, &worker).await;
    for _ in 0..20 {
        exchange(&honest, &worker).await;
    }
    // Asked ahead of their requests.
    let asked: Vec<_> = (0..20).map(|_| honest.register(&to_worker()).unwrap()).collect();
    until("the questions", || worker.pool().streams == SHARE + asked.len()).await;
    for ResponseRegistration { connection_info, stream } in asked {
        connect(&worker, &connection_info).await.complete();
        drain(stream).await;
    }
    // A place that is free again is taken again.
    drop(held);
    until("the places", || worker.pool().streams == 0).await;
    exchange(&greedy, &worker).await;
}

/// The caller gives up while its request is on the way.
#[tokio::test]
async fn what_a_caller_gave_up_does_not_run_when_its_request_comes_late() {
    for worker in [patient(), worker(plain())] {
        let caller = pooled_caller();
        exchange(&caller, &worker).await;
        until("the stream to be over", || worker.pool().streams == 0).await;
        let ResponseRegistration { connection_info, stream } =
            caller.register(&to_worker()).unwrap();
        drop(stream);
        // Behind it on the same connection, where there is one.
        exchange(&caller, &worker).await;
        let error = dial(&worker, &connection_info).await.map(drop).unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
    }
}

/// A request that comes twice has one run.
#[tokio::test]
async fn a_request_that_is_delivered_twice_runs_once() {
    for worker in [patient(), worker(plain())] {
        let caller = pooled_caller();
        exchange(&caller, &worker).await;
        let (stream, info) = {
            let registered = caller.register(&to_worker()).unwrap();
            (registered.stream, registered.connection_info)
        };
        let mut sink = connect(&worker, &info).await;
        let error = dial(&worker, &info).await.map(drop).unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
        sink.send(Bytes::from("once")).await.unwrap();
        sink.complete();
        assert_eq!(drain(stream).await.0, ["once"]);
    }
}

const SUBJECT: &str = "11111111-2222-4333-8444-555555555555";

/// A caller by hand that offers what version `v` does.
async fn caller_by_hand(v: u32) -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let info = TcpStreamConnectionInfo {
        address: listener.local_addr().unwrap().to_string(),
        subject: SUBJECT.into(),
        context: context_text(StreamId(9)),
        stream_type: StreamType::Response,
        sinew: Some(SinewOffer { v, process: None, token: None }),
    };
    (listener, info.to_text())
}

async fn handshake(listener: &TcpListener) -> (TcpStream, String) {
    let (mut socket, _) = soon("the worker", listener.accept()).await.unwrap();
    let (header, _) = receive(&mut socket).await.unwrap();
    (socket, String::from_utf8(header).unwrap())
}

#[tokio::test]
async fn a_worker_waits_for_the_word_of_a_caller_that_gives_it() {
    let worker = worker(plain());
    let expected = format!(r#"{{"subject":"{SUBJECT}","stream_type":"response","confirm":true}}"#);
    for (word, runs) in [(Some(READY), true), (Some("\"kill\""), false), (None, false)] {
        let (listener, info) = caller_by_hand(2).await;
        let context = Context::builder().id(StreamId(9)).build();
        let mut dialled = pin!(worker.connect(&info, Origin::SameHost, context));
        let (mut socket, asked) = tokio::select! {
            early = &mut dialled => panic!("it runs without a word: {early:?}"),
            socket = handshake(&listener) => socket,
        };
        assert_eq!(asked, expected);
        assert!(poll!(&mut dialled).is_pending());
        match word {
            Some(word) => {
                use tokio::io::AsyncWriteExt;
                socket.write_all(&header(word)).await.unwrap();
            }
            None => drop(socket),
        }
        let outcome = soon("the word", dialled).await;
        assert_eq!(outcome.is_ok(), runs, "{word:?}");
        for error in outcome.err().iter() {
            assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
        }
    }
}

/// One that says nothing is not waited for for ever.
#[tokio::test]
async fn a_caller_that_does_not_give_its_word_has_a_limit() {
    let mut config = plain();
    config.driver.connect_timeout = Duration::from_millis(100);
    let worker = worker(config);
    let (listener, info) = caller_by_hand(2).await;
    let context = Context::builder().id(StreamId(9)).build();
    let dialled = soon("the limit", worker.connect(&info, Origin::SameHost, context));
    let (outcome, _held) = tokio::join!(dialled, handshake(&listener));
    let error = outcome.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectTimedOut, Executed::No));
}

/// Callers of Dynamo and of version 1 give none, and are not asked.
#[tokio::test]
async fn a_caller_of_an_earlier_version_is_not_asked_for_its_word() {
    let worker = worker(plain());
    let (listener, info) = caller_by_hand(1).await;
    let context = Context::builder().id(StreamId(9)).build();
    let dialled = worker.connect(&info, Origin::SameHost, context);
    let (sink, (_socket, asked)) = tokio::join!(soon("the dial", dialled), handshake(&listener));
    assert_eq!(asked, format!(r#"{{"subject":"{SUBJECT}","stream_type":"response"}}"#));
    drop(sink.unwrap());
}
