//! Messages of all lengths stay whole.

use futures_util::future::join_all;

use crate::{
    Harness,
    handlers::{echo, spawned},
    payload::{LENGTHS, assert_same, patterned},
    request,
};

/// Bodies of 0 bytes to 5 MiB, and the same back as items.
pub async fn bodies_of_every_length(harness: &dyn Harness) {
    let served = harness.serve(echo()).await;
    for length in LENGTHS {
        let body = patterned(length, 1);
        let items = served.call(request(body.clone())).await.complete();
        assert_eq!(items.len(), 1);
        assert_same(&items[0], &body);
    }
}

/// One stream with items of 0 bytes to 5 MiB.
pub async fn items_of_every_length(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        for length in LENGTHS {
            if call.sink.send(patterned(length, 2)).await.is_err() {
                return;
            }
        }
        call.sink.complete();
    });
    let served = harness.serve(handler).await;
    let items = served.call(request("")).await.complete();
    assert_eq!(items.len(), LENGTHS.len());
    for (item, length) in items.iter().zip(LENGTHS) {
        assert_same(item, &patterned(length, 2));
    }
}

/// Lengths that alternate between small and large.
fn mixed(number: u64) -> usize {
    match number % 4 {
        0 => 1 << 20,
        1 => 3,
        2 => 70_000,
        _ => 0,
    }
}

/// Large and small items on several streams at once come out whole and unmixed.
pub async fn large_and_small_items_stay_whole(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        let seed = call.number();
        for number in 0..12 {
            let item = patterned(mixed(number + seed), seed * 100 + number);
            if call.sink.send(item).await.is_err() {
                return;
            }
        }
        call.sink.complete();
    });
    let served = harness.serve(handler).await;
    let streams = (0..6).map(|stream| served.call(request(stream.to_string())));
    for (seed, received) in (0_u64..).zip(join_all(streams).await) {
        let items = received.complete();
        assert_eq!(items.len(), 12);
        for (number, item) in (0..).zip(&items) {
            assert_same(item, &patterned(mixed(number + seed), seed * 100 + number));
        }
    }
}

/// Large bodies that go out at the same time, with small ones between them.
pub async fn large_bodies_side_by_side(harness: &dyn Harness) {
    let served = harness.serve(echo()).await;
    let body = |number| patterned(if number % 2 == 0 { 2 << 20 } else { 10 }, number);
    let calls = (0..12).map(|number| served.call(request(body(number))));
    for (number, received) in (0..).zip(join_all(calls).await) {
        let items = received.complete();
        assert_eq!(items.len(), 1);
        assert_same(&items[0], &body(number));
    }
}
