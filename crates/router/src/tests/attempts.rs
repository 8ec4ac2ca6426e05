//! Several attempts of one request at the same time, as hedging needs them.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{FutureExt, StreamExt};
use sinew_plane::{Context, InstanceId, clock};

use super::world::{Script, World, says};
use crate::{
    Direct, PushRouter, RouterMode, TransportMoves, attempt::Answer, request::Request,
    router_state::Chosen,
};

fn counts(router: &PushRouter<String, String>) -> [u32; 2] {
    [1, 2].map(|id| router.in_flight(InstanceId(id)))
}

#[tokio::test]
async fn two_attempts_are_alive_at_once_and_the_loser_is_cancelled_alone() {
    let world = World::with(&[Script::NeverStart, says(&["won"])]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let (context, sent) = (Context::new(), AtomicBool::new(false));
    let (shared, members) = (router.shared(), router.client().members());
    let strategy = Direct(InstanceId(1));
    let data = "hi".to_owned();
    let mut request = Request::<_, String>::new(
        shared,
        (&strategy, None),
        &context,
        (data, TransportMoves::default()),
        &sent,
    );
    let choose = |request: &Request<'_, String, String>, id| -> Chosen {
        let (strategy, headers) = (Direct(InstanceId(id)), context.headers());
        let (attempts, now) = (&request.attempts, clock::now());
        shared.state.choose(&strategy, &members, attempts, headers, None, now).unwrap()
    };

    let chosen = choose(&request, 1);
    let first = request.attempt(&members, chosen).unwrap().unwrap();
    let mut first = Box::pin(first.run());
    assert!(first.as_mut().now_or_never().is_none());
    let chosen = choose(&request, 2);
    let second = request.attempt(&members, chosen).unwrap().unwrap();
    assert_eq!(counts(&router), [1, 1]);
    let Answer::Remote { response, active, .. } = second.run().await.unwrap() else { panic!() };
    let mut response = response.into_body(active);
    assert!(first.as_mut().now_or_never().is_none(), "both are under way");
    let seen = world.seen();
    assert_eq!([&seen[0], &seen[1]].map(|seen| seen.request.attempt), [0, 1]);
    let contexts = [&seen[0], &seen[1]].map(|seen| seen.request.context.id());
    assert_ne!(contexts[0], contexts[1], "each with a stream id of its own");
    let bodies = [&seen[0], &seen[1]].map(|seen| seen.request.body.as_ptr());
    assert_eq!(bodies[0], bodies[1], "encoded once");

    drop(first);
    assert_eq!((world.abandoned(), counts(&router)), (1, [0, 1]));
    assert!(!context.is_stopped() && sent.load(Ordering::Relaxed));
    assert_eq!(response.next().await.unwrap().unwrap(), "won");
    assert!(response.next().await.is_none());
    assert_eq!(counts(&router), [0, 0]);
}
