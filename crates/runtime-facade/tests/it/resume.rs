//! Readers of a response in the process that has asked for it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sinew::{Code, Endpoint, Error, ManyOut, Retain, Router, Served, push_engine_fn};
use tokio::{sync::mpsc, time::timeout};

use crate::support::{GUARD, World};

const COUNT: Endpoint<String, String> = Endpoint::new("tests/resume/count");

/// Sends the numbers that the test says, and ends when that ends.
async fn count(world: &World, retain: Option<Retain>) -> (Served, mpsc::UnboundedSender<u64>) {
    let (tell, told) = mpsc::unbounded_channel::<u64>();
    let told = std::sync::Mutex::new(Some(told));
    let engine = push_engine_fn(move |_, mut sink| {
        let mut told = told.lock().unwrap().take().unwrap();
        tokio::spawn(async move {
            while let Some(number) = told.recv().await {
                sink.send(Bytes::from(number.to_string())).await.unwrap();
            }
            sink.complete();
        });
        Ok(())
    });
    let mut serving = world.worker.serve_named(COUNT.name());
    if let Some(retain) = retain {
        serving = serving.retain(retain);
    }
    (serving.push_engine(engine).await.unwrap(), tell)
}

async fn next(response: &mut ManyOut<String>) -> Option<Result<String, Error>> {
    timeout(GUARD, response.next()).await.unwrap()
}

async fn expect(response: &mut ManyOut<String>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(next(response).await.unwrap().unwrap(), number.to_string());
    }
}

/// A call of which three items have come.
async fn begun(
    world: &World,
    tell: &mpsc::UnboundedSender<u64>,
) -> (Router<String, String>, ManyOut<String>) {
    let router = world.router(&COUNT).await;
    let mut response = router.call("").await.unwrap();
    (0..3).for_each(|number| tell.send(number).unwrap());
    expect(&mut response, 0..3).await;
    (router, response)
}

#[tokio::test]
async fn a_process_does_not_take_its_response_from_its_own_reader() {
    let world = World::new().await;
    let (served, tell) = count(&world, None).await;
    let (router, mut response) = begun(&world, &tell).await;
    let token = response.resume_token().unwrap();
    for token in [token.clone(), token.at(0)] {
        let error = router.resume(&token).await.unwrap_err();
        assert_eq!(error.code(), Code::ResumeExpired);
        assert!(error.message().contains("this process reads the response itself"), "{error}");
    }
    (3..6).for_each(|number| tell.send(number).unwrap());
    expect(&mut response, 3..6).await;
    drop(tell);
    assert!(next(&mut response).await.is_none(), "{:?}", response.outcome());
    drop((served, response));
    world.end().await;
}

#[tokio::test]
async fn a_process_reads_its_response_twice_where_it_is_retained() {
    let world = World::new().await;
    let retain = Retain { items: 100, bytes: 1 << 20, time: Duration::from_secs(60) };
    let (served, tell) = count(&world, Some(retain)).await;
    let (router, mut response) = begun(&world, &tell).await;
    let token = response.resume_token().unwrap();
    let mut from_begin = router.resume(&token.at(0)).await.unwrap();
    let mut from_here = router.resume(&token).await.unwrap();
    expect(&mut from_begin, 0..3).await;
    (3..6).for_each(|number| tell.send(number).unwrap());
    drop(tell);
    for response in [&mut response, &mut from_begin, &mut from_here] {
        expect(response, 3..6).await;
        assert!(next(response).await.is_none(), "{:?}", response.outcome());
    }
    let error = router.resume(&token.at(7)).await.unwrap_err();
    assert_eq!(error.resume_window(), Some((0, 6)), "{error}");
    drop((served, response, from_begin, from_here));
    world.end().await;
}
