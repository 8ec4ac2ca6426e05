//! Requests that are streams, in Dynamo's bytes: between two ends of Sinew and with a Dynamo peer by
//! hand.

use std::sync::Arc;

use sinew_plane::{Address, Code};
use sinew_testkit::{Received, reports};

use crate::{
    another,
    dynamo::{self, Caller, Line, call_home, request_frame, two_part},
    fixture::{Worker, response_server, soon},
    streams::{echo, no_unary, numbers, request},
    to_dynamo,
};

const PATH: &str = "1f/ns1/backend/generate";

#[tokio::test]
async fn both_directions_carry_their_items_in_dynamo_s_wrapping() {
    let (reporter, mut ended) = reports();
    let worker = Worker::new(no_unary()).await;
    let _served = echo(&worker, reporter);
    let responses = response_server(true);
    let transport = to_dynamo(Arc::clone(&responses));
    let address = Address::new("dynamo-tcp", &format!("{}/{PATH}", worker.host())).unwrap();
    for count in [0, 1, 1000] {
        let opening =
            transport.open_bidirectional(&address, request(), numbers(count), &*responses);
        let mut stream = soon("the opening", opening).await.unwrap();
        let items = Received::read(&mut stream).await.complete();
        assert_eq!(items.len(), count);
        assert!(items.iter().enumerate().all(|(n, item)| item == n.to_string().as_bytes()));
        assert_eq!(ended.next("the end of the items").await, None);
    }
    assert_eq!(responses.streams(), 0);
}

#[tokio::test]
async fn a_dynamo_worker_gets_the_bytes_that_it_expects() {
    let worker = dynamo::Worker::new().await;
    let responses = response_server(true);
    let transport = to_dynamo(Arc::clone(&responses));
    let address = Address::new("dynamo-tcp", &format!("{}/{PATH}", worker.host())).unwrap();
    let opening = transport.open_bidirectional(&address, request(), numbers(2), &*responses);
    let (stream, (received, _line)) = tokio::join!(opening, async {
        let (received, mut line) = worker.request().await;
        line.acknowledge("").await;
        (received, line)
    });
    let mut stream = stream.unwrap();
    assert!(received.body.is_empty());
    assert_eq!(received.control["request_type"], "many_in");
    let info = &received.control["request_stream_connection_info"];
    assert_eq!(info["transport"], "tcp_server");
    let info: serde_json::Value = serde_json::from_str(info["info"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&info["stream_type"], &info["context"]),
        (&"request".into(), &received.control["id"])
    );

    let mut input = Line::dial(info["address"].as_str().unwrap()).await;
    let subject = info["subject"].as_str().unwrap();
    let handshake = format!(r#"{{"subject":"{subject}","stream_type":"request"}}"#);
    input.write(&two_part(handshake.as_bytes(), b"")).await;
    assert_eq!(input.item().await, b"0");
    assert_eq!(input.item().await, b"1");
    assert_eq!(input.header().await, "\"sentinel\"");

    let mut back = call_home(&received.control).await;
    back.write(&two_part(br#"{"error":null}"#, b"")).await;
    back.write(&two_part(b"", br#"{"complete_final":true}"#)).await;
    back.write(&two_part(b"\"sentinel\"", b"")).await;
    assert!(Received::read(&mut stream).await.complete().is_empty());
}

#[tokio::test]
async fn a_dynamo_caller_is_answered_in_the_bytes_that_it_expects() {
    let (reporter, mut ended) = reports();
    let worker = Worker::new(no_unary()).await;
    let served = echo(&worker, reporter);
    let caller = Caller::new().await;
    let control = caller.control("json");
    // Both streams are expected at the same place; their handshakes tell them apart.
    let info: serde_json::Value = serde_json::from_str(&control).unwrap();
    let text = info["connection_info"].to_string();
    let input = text.replace("response", "request");
    let control = control.replace("single_in", "many_in");
    let control =
        control.replacen('{', &format!(r#"{{"request_stream_connection_info":{input},"#), 1);
    let mut line = Line::dial(&worker.host()).await;
    line.write(&request_frame(PATH, "{}", &two_part(control.as_bytes(), b""))).await;
    assert_eq!(line.ack().await, "");

    let mut input = caller.connection().await;
    let handshake = format!(r#"{{"subject":"{}","stream_type":"request"}}"#, dynamo::SUBJECT);
    assert_eq!(input.header().await, handshake);
    let mut back = caller.worker().await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    input.write(&two_part(b"", b"7")).await;
    assert_eq!(back.item().await, br#"{"data":{"data":7},"complete_final":false}"#);
    input.write(&two_part(b"\"sentinel\"", b"")).await;
    assert_eq!(back.item().await, br#"{"complete_final":true}"#);
    assert_eq!(back.header().await, "\"sentinel\"");
    assert_eq!(ended.next("the end of the items").await, None);

    // One request is not a stream of them, and a stream needs a place to be fetched from.
    let single = another(&caller.control("json"), 1);
    for control in [single, another(&caller.control("json"), 2).replace("single_in", "many_in")] {
        line.write(&request_frame(PATH, "{}", &two_part(control.as_bytes(), b""))).await;
        assert_eq!(line.ack().await, "");
        let mut back = caller.worker().await;
        assert!(back.header().await.contains("\"InvalidRequest\""));
    }
    drop(served);
}

#[tokio::test]
async fn items_that_break_off_kill_the_request() {
    let (reporter, mut ended) = reports();
    let worker = Worker::new(no_unary()).await;
    let _served = echo(&worker, reporter);
    let caller = Caller::new().await;
    let control = caller.control("json").replace("single_in", "many_in");
    let info: serde_json::Value = serde_json::from_str(&control).unwrap();
    let input = info["connection_info"].to_string().replace("response", "request");
    let control =
        control.replacen('{', &format!(r#"{{"request_stream_connection_info":{input},"#), 1);
    let mut line = Line::dial(&worker.host()).await;
    line.write(&request_frame(PATH, "{}", &two_part(control.as_bytes(), b""))).await;
    assert_eq!(line.ack().await, "");
    let mut input = caller.connection().await;
    input.header().await;
    let mut back = caller.worker().await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    drop(input);
    assert_eq!(ended.next("the loss").await, Some(Code::Truncated));
    back.end().await;
}
