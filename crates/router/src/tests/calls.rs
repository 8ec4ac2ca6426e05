//! Requests that succeed, and how their responses end.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_codec::PayloadFormat;
use sinew_plane::{
    Code, Context, Executed, Headers, InstanceId, Outcome, SingleIn, Window, header,
};

use super::world::{Script, World, refuses, says};
use crate::{RouterMode, Why};

#[tokio::test]
async fn requests_rotate_and_say_who_serves_them() {
    let world = World::with(&[says(&["one"]), says(&["two"]), says(&["three"])]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let mut ids = Vec::new();
    for _ in 0..9 {
        let (response, explanation) = router.generate_explained("hello".to_owned()).await.unwrap();
        let values: Vec<_> = response.map(Result::unwrap).collect().await;
        let expected = ["one", "two", "three"][explanation.instance.0 as usize - 1];
        assert_eq!(values, [expected]);
        assert_eq!((explanation.why, explanation.transport.as_str()), (Why::Turn, "fake"));
        assert!(explanation.attempts.is_empty());
        ids.push(explanation.instance.0);
    }
    assert!(ids.windows(2).all(|pair| pair[1] == pair[0] % 3 + 1), "{ids:?}");
}

#[tokio::test]
async fn a_request_carries_body_headers_window_and_identity() {
    let world = World::new();
    world.add_with(1, says(&[]), |one| one.codecs = vec!["martian".into(), "msgpack".into()]).await;
    world.add_with(2, says(&[]), |one| one.any_id = true).await;
    let window = Window { items: 3, bytes: 4096 };
    let router = world.router(RouterMode::RoundRobin).await.with_window(window);
    let mut headers = Headers::new();
    headers.insert("authorization", "token").unwrap();
    let context = Context::builder().headers(headers).build();

    let request = SingleIn::with_context("hi".to_owned(), context.clone());
    let response = router.direct(request, InstanceId(1)).await.unwrap();
    assert_eq!(response.context().id(), context.id());
    router.direct("hi".to_owned(), 2_i64).await.unwrap();

    let seen: Vec<_> = world.seen().into_iter().map(|seen| seen.request).collect();
    assert_eq!(seen[0].body, PayloadFormat::Msgpack.encode("hi").unwrap());
    assert_eq!(seen[0].headers.get("authorization"), Some("token"));
    assert_eq!(seen[0].headers.get(header::CONTENT_TYPE), Some("application/msgpack"));
    assert_eq!((seen[0].instance, seen[0].attempt), (InstanceId(1), 0));
    assert_eq!((seen[0].window, seen[0].context.id()), (Some(window), context.id()));
    assert_eq!(seen[1].body, "\"hi\"");
    assert_eq!(seen[1].instance, InstanceId(0), "a seed's id is ours, not the server's");
}

#[tokio::test]
async fn bytes_go_through_untouched() {
    let world = World::with(&[Script::Items(vec![Bytes::from_static(b"\xff\x00")])]).await;
    let router = world.typed::<Bytes, Bytes>(RouterMode::Random).await;
    let mut response = router.generate(Bytes::from_static(b"{not json")).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), Bytes::from_static(b"\xff\x00"));
    let request = &world.seen()[0].request;
    assert_eq!(request.body, Bytes::from_static(b"{not json"));
    assert_eq!(request.headers.get(header::CONTENT_TYPE), Some("application/octet-stream"));
}

#[tokio::test]
async fn a_format_can_be_forced() {
    let packed = PayloadFormat::Msgpack.encode("yes").unwrap();
    let world = World::with(&[Script::Items(vec![packed])]).await;
    let router = world.router(RouterMode::RoundRobin).await.with_format(PayloadFormat::Msgpack);
    let values: Vec<_> = router.generate("hi".to_owned()).await.unwrap().collect().await;
    assert_eq!(values[0].as_deref().unwrap(), "yes");
}

#[tokio::test]
async fn an_item_that_cannot_be_read_ends_the_stream_and_the_handler() {
    let items = ["\"good\"", "{", "\"never seen\""].map(Bytes::from_static_str);
    let world = World::with(&[Script::Items(items.into())]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let mut response = router.generate("hi".to_owned()).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), "good");
    let error = response.next().await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::InvalidPayload, Executed::Yes));
    assert!(response.next().await.is_none());
    assert!(matches!(response.outcome(), Some(Outcome::Failed { .. })));
    assert_eq!(world.abandoned(), 1, "the stream is given up before the caller drops it");
}

#[tokio::test]
async fn the_four_ends_can_be_told_apart() {
    let lost = Script::Break(vec![Bytes::from_static(b"\"a\"")]);
    let world = World::with(&[says(&["a", "b"]), lost, Script::StartThenSilence]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let mut complete = router.direct("hi".to_owned(), InstanceId(1)).await.unwrap();
    assert_eq!(complete.by_ref().count().await, 2);
    assert!(matches!(complete.outcome(), Some(Outcome::Complete { items: 2 })));

    let mut truncated = router.direct("hi".to_owned(), InstanceId(2)).await.unwrap();
    assert!(truncated.next().await.unwrap().is_ok());
    assert_eq!(truncated.next().await.unwrap().unwrap_err().code(), Code::Truncated);
    assert!(matches!(truncated.outcome(), Some(Outcome::Truncated { received: 1 })));

    let dropped = router.direct("hi".to_owned(), InstanceId(3)).await.unwrap();
    assert_eq!(world.abandoned(), 2);
    drop(dropped);
    assert_eq!(world.abandoned(), 3);
}

#[tokio::test(start_paused = true)]
async fn instances_come_and_go() {
    let world = World::new();
    let router = world.router(RouterMode::RoundRobin).await;
    let client = router.client();
    let error = client.wait_for_instances(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.code(), Code::NoInstances);

    let added = async {
        tokio::task::yield_now().await;
        world.add(7, says(&[])).await;
    };
    let (found, ()) = tokio::join!(client.wait_for_instances(Duration::from_secs(5)), added);
    assert_eq!(found.unwrap()[0].id, InstanceId(7));
    router.generate("hi".to_owned()).await.unwrap();
    world.add(8, says(&[])).await;
    world.remove(7).await;
    assert_eq!(client.instance_ids(), [InstanceId(8)]);
    router.generate("hi".to_owned()).await.unwrap();
    assert_eq!(world.asked(), [7, 8]);
}

#[tokio::test]
async fn nobody_there_is_said_clearly() {
    let world = World::new();
    let router = world.router(RouterMode::RoundRobin).await;
    let error = router.generate("hi".to_owned()).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::NoInstances, Executed::No));
    assert!(error.message().starts_with("No instances found for a/b/c: "), "{error}");

    world.add(0xbeef, says(&[])).await;
    let error = router.direct("hi".to_owned(), InstanceId(1)).await.unwrap_err();
    assert_eq!(error.code(), Code::NoInstances);
    assert!(error.message().contains("a/b/c with id 1"), "{error}");
    assert!(error.message().contains("registered are beef"), "{error}");
    assert!(world.asked().is_empty());
}

#[tokio::test]
async fn an_instance_without_a_common_transport_or_format_is_passed_over() {
    let world = World::with(&[says(&[])]).await;
    world.add_with(2, says(&[]), |one| one.addresses = vec!["quic://h:1".parse().unwrap()]).await;
    world.add_with(3, says(&[]), |one| one.codecs = vec!["martian".into()]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    for _ in 0..6 {
        router.generate("hi".to_owned()).await.unwrap();
    }
    assert_eq!(world.asked(), [1; 6]);
    let alone = |id| router.direct("hi".to_owned(), InstanceId(id));
    let error = alone(2).await.unwrap_err();
    assert_eq!(error.code(), Code::NoTransport);
    assert!(error.message().contains("offers [quic] and this process speaks [fake]"), "{error}");
    assert!(alone(3).await.unwrap_err().message().contains("reads [martian]"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_are_spread_evenly() {
    let hi = || says(&["hi"]);
    let world = World::with(&[hi(), hi(), hi(), refuses(Code::Draining)]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let calls: Vec<_> = (0..1000)
        .map(|n| {
            let router = router.clone();
            tokio::spawn(async move {
                let (response, served) = router.generate_explained(n.to_string()).await.unwrap();
                assert_eq!(response.count().await, 1);
                served.instance.0
            })
        })
        .collect();
    let mut counts = HashMap::new();
    for call in calls {
        *counts.entry(call.await.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts.values().sum::<i32>(), 1000);
    assert!(!counts.contains_key(&4));
    // The drained one was asked a few times, by requests that were under way together.
    assert!(counts.values().all(|count| (300..=367).contains(count)), "{counts:?}");
}

/// `Bytes::from_static` for text.
trait FromStaticStr {
    fn from_static_str(text: &'static str) -> Self;
}

impl FromStaticStr for Bytes {
    fn from_static_str(text: &'static str) -> Self {
        Self::from_static(text.as_bytes())
    }
}
