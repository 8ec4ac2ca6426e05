//! Whoever dials a caller and says that it is a worker which was sent a request.

use std::time::Duration;

use bytes::Bytes;
use sinew_dynamo_wire::TcpStreamConnectionInfo;
use sinew_plane::{ProcessId, ResponsePlaneServer, ResponseRegistration};
use sinew_plane_call_home::TcpStreamServer;
use sinew_testkit::{Cut, Way};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    delivery::{connect, drain, next, worker},
    fixture::{soon, until},
    pooled::{CALLER, WORKER, driver, pooled, pooled_caller, to_worker},
    resume::behind_proxy,
};

/// Another process that requests were sent to.
const OTHER: ProcessId = ProcessId(0x07E4);

/// Kinds of frame.
const HELLO: u8 = 0x01;
const OPEN: u8 = 0x02;
const ATTACH: u8 = 0x0C;

/// What a process says when it makes a shared connection, and the token that it shows with it.
fn greeting(process: ProcessId, token: Option<&[u8]>) -> Vec<u8> {
    let mut payload = vec![1, 1];
    let mut put = |key: u16, value: &[u8]| {
        payload.extend(key.to_be_bytes());
        payload.extend((value.len() as u16).to_be_bytes());
        payload.extend(value);
    };
    put(1, &process.0.to_be_bytes());
    put(2, &16_384_u32.to_be_bytes());
    put(3, &(1_u32 << 20).to_be_bytes());
    put(4, &(1_u32 << 20).to_be_bytes());
    // It keeps streams.
    put(6, &1_u64.to_be_bytes());
    if let Some(token) = token {
        put(7, token);
    }
    let mut bytes = b"\xffSNEW\xff\r\n".to_vec();
    bytes.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.push(HELLO);
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Reads what the caller says until it opens or attaches a stream or ends the connection: the name of the
/// stream, or none.
async fn opened(caller: &TcpStreamServer, greeting: &[u8]) -> Option<String> {
    let mut socket = TcpStream::connect(caller.local_address()).await.unwrap();
    socket.write_all(greeting).await.unwrap();
    let reading = async {
        let mut preface = [0; 8];
        socket.read_exact(&mut preface).await.ok()?;
        loop {
            let mut head = [0; 8];
            socket.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            socket.read_exact(&mut payload).await.ok()?;
            if head[3] == OPEN {
                let name = usize::from(u16::from_be_bytes([payload[56], payload[57]]));
                return Some(String::from_utf8(payload[59..59 + name].to_vec()).unwrap());
            }
            if head[3] == ATTACH {
                return Some("an attach".to_owned());
            }
        }
    };
    soon("a stream or the end", reading).await
}

/// What a request to a worker holds.
fn read(registered: &ResponseRegistration) -> TcpStreamConnectionInfo {
    TcpStreamConnectionInfo::from_text(&registered.connection_info).unwrap()
}

fn token_of(registered: &ResponseRegistration) -> Vec<u8> {
    let token = read(registered).sinew.unwrap().token.unwrap();
    let byte = |at: usize| u8::from_str_radix(&token[at..at + 2], 16).unwrap();
    (0..token.len()).step_by(2).map(byte).collect()
}

fn register(caller: &TcpStreamServer, process: ProcessId) -> ResponseRegistration {
    let mut request = to_worker();
    request.process = Some(process);
    caller.register(&request).unwrap()
}

/// The process number of a worker is in its hello, for everybody who asks.
#[tokio::test]
async fn a_stream_is_opened_to_the_token_of_its_worker_and_to_nothing_else() {
    let caller = pooled_caller();
    let (mine, others) = (register(&caller, WORKER), register(&caller, OTHER));
    let (token, other) = (token_of(&mine), token_of(&others));
    let flipped = |at: usize, bit: u8| {
        let mut token = token.clone();
        token[at] ^= bit;
        token
    };
    for (process, shown) in [
        (WORKER, None),
        (WORKER, Some(vec![0; 16])),
        (WORKER, Some(flipped(0, 0x80))),
        (WORKER, Some(flipped(15, 1))),
        (WORKER, Some(other.clone())),
        (OTHER, Some(token.clone())),
        (ProcessId::UNKNOWN, Some(token.clone())),
        (ProcessId(0xBAD), Some(token.clone())),
        (WORKER, Some(token[..15].to_vec())),
        (WORKER, Some([&token[..], &[0]].concat())),
        (WORKER, Some(Vec::new())),
    ] {
        let name = opened(&caller, &greeting(process, shown.as_deref())).await;
        assert_eq!(name, None, "{process} with {shown:?}");
    }
    assert_eq!(caller.streams(), 2, "nothing has happened to the streams");
    for (process, token, registered) in [(WORKER, token, &mine), (OTHER, other, &others)] {
        let name = opened(&caller, &greeting(process, Some(&token))).await;
        assert_eq!(name, Some(format!("call-home/{}", read(registered).subject)));
    }
}

/// Streams whose worker is cut off wait for that worker.
#[tokio::test]
async fn a_stream_attaches_to_the_token_and_the_process_of_its_worker_alone() {
    let (proxy, caller) = behind_proxy(driver(CALLER)).await;
    let worker = worker(pooled());
    let registered = register(&caller, WORKER);
    let (token, other) = (token_of(&registered), token_of(&register(&caller, OTHER)));
    let mut sink = connect(&worker, &registered.connection_info).await;
    sink.send(Bytes::from("one")).await.unwrap();
    let mut stream = registered.stream;
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "one");
    proxy.hold();
    (&proxy as &dyn Way).cut(Cut::Reset);
    until("the worker to dial again", || proxy.made() == 2).await;
    for (process, shown) in [
        (WORKER, None),
        (WORKER, Some(vec![0; 16])),
        (WORKER, Some(other.clone())),
        (OTHER, Some(token)),
    ] {
        let name = opened(&caller, &greeting(process, shown.as_deref())).await;
        assert_eq!(name, None, "{process} with {shown:?}");
    }
    // Another worker of this caller, which may open its own streams there.
    let _others = register(&caller, OTHER);
    let name = opened(&caller, &greeting(OTHER, Some(&other))).await;
    assert_ne!(name.as_deref(), Some("an attach"));
    sink.send(Bytes::from("two")).await.unwrap();
    sink.complete();
    proxy.release();
    assert_eq!(drain(stream).await.0, ["two"]);
}

/// Forged connections beside it take nothing from the worker.
#[tokio::test]
async fn the_worker_answers_while_others_try_to() {
    let caller = pooled_caller();
    let forged: Vec<_> = (0..20).map(|_| greeting(WORKER, None)).collect();
    for greeting in &forged {
        assert_eq!(opened(&caller, greeting).await, None);
    }
    let worker = worker(pooled());
    for _ in 0..3 {
        let ResponseRegistration { connection_info, stream } = register(&caller, WORKER);
        let mut sink = connect(&worker, &connection_info).await;
        assert_eq!(opened(&caller, &forged[0]).await, None);
        sink.send(Bytes::from("mine")).await.unwrap();
        sink.complete();
        assert_eq!(drain(stream).await.0, ["mine"]);
    }
    assert_eq!(worker.pool().created, 1);
    worker.close(Duration::ZERO).await;
}

#[tokio::test]
async fn every_worker_and_every_caller_has_a_token_of_its_own() {
    let (one, two) = (pooled_caller(), pooled_caller());
    let tokens: Vec<_> = [(&one, WORKER), (&one, OTHER), (&two, WORKER), (&two, OTHER)]
        .map(|(caller, process)| {
            let (first, second) = (register(caller, process), register(caller, process));
            assert_eq!(token_of(&first), token_of(&second), "it is for the connections of both");
            assert_eq!(token_of(&first).len(), 16);
            token_of(&first)
        })
        .into();
    for (at, token) in tokens.iter().enumerate() {
        assert!(!tokens[..at].contains(token));
    }
}

/// A worker of an earlier version does not know of tokens: it is offered no shared connection.
#[tokio::test]
async fn the_offer_of_an_earlier_version_is_not_made() {
    let caller = pooled_caller();
    let text = register(&caller, WORKER).connection_info;
    assert!(!text.contains("pool"), "{text}");
    let info = TcpStreamConnectionInfo::from_text(&text).unwrap();
    assert_eq!(info.sinew.unwrap().v, 4);
}
