//! Cases of the model that are worth a name.

use std::time::Duration;

use sinew_mux::Role;
use sinew_plane::{Code, Terminal, Window};

use super::{
    CHUNK, Op, STREAMS, begin, begin_on,
    carrier::{Loss, Side},
    handler::End,
    run, settings,
    stream::{Ended, Stream},
    world::{GRACE, Settings, World},
};

/// A head, four items, one of no bytes and one in chunks, and facts, of a stream whose carrier breaks after `cut`
/// bytes to the caller, for one end before the other. False when there were fewer bytes.
fn broken_after(cut: usize, first: Side, settings: Settings) -> bool {
    let window = Window { items: 10, bytes: 1 << 20 };
    let mut world = World::new(vec![Stream::new(0, window, 5).telling()], settings);
    begin(&mut world);
    let lens = vec![3, 0, 1, CHUNK + 9];
    run(&mut world, &Op::Push { stream: 0, lens, flush: true });
    run(&mut world, &Op::Finish { stream: 0, end: End::Complete });
    let mut to_come = cut;
    let mut broken = false;
    for _ in 0..4 {
        world.write(0, Side::Server, usize::MAX);
        let there = world.on_the_way(0, Side::Caller);
        if there > to_come {
            world.deliver(0, Side::Caller, to_come);
            world.lose(0, first, Loss::Cut);
            broken = true;
            break;
        }
        to_come -= there;
        world.deliver(0, Side::Caller, usize::MAX);
    }
    world.settle(None);
    assert_eq!(world.streams[0].caller.taken(), 4);
    world.end();
    broken
}

#[test]
fn a_carrier_may_break_at_every_byte() {
    for (role, integrity) in [(Role::Dialler, false), (Role::Acceptor, true)] {
        for first in Side::BOTH {
            // Every byte around the frames' borders, and some in the middle of the chunk.
            let cuts = (0..120).chain((120..CHUNK).step_by(9_973)).chain(CHUNK - 20..CHUNK + 240);
            let settings = settings(role, integrity);
            let broken = cuts.filter(|cut| broken_after(*cut, first, settings)).count();
            assert!(broken > 190, "only {broken} cuts fell into the response");
        }
    }
}

/// A carrier that breaks after `cut` bytes to the server, behind which the request is sent. How the
/// stream ended is checked; true when its handler saw the request.
fn asked_over_a_carrier_that_breaks(cut: usize, first: Side, loss: Loss) -> Option<bool> {
    let window = Window { items: 10, bytes: 1 << 20 };
    let mut world = World::new(vec![Stream::new(0, window, 5)], settings(Role::Dialler, false));
    for _ in 0..2 {
        world.exchange(0);
    }
    world.reach();
    world.write(0, Side::Caller, usize::MAX);
    if cut > world.on_the_way(0, Side::Server) {
        return None;
    }
    if first == Side::Server {
        world.deliver(0, Side::Server, cut);
    }
    world.lose(0, first, loss);
    // It comes back before the request arrives that still lies in the old carrier.
    world.connect();
    begin_on(&mut world, 1);
    world.deliver(0, Side::Server, cut);
    world.settle(None);
    let was_served = world.streams[0].handler.is_some();
    world.end();
    Some(was_served)
}

#[test]
fn a_request_that_is_overtaken_by_its_attach_runs_never() {
    for loss in [Loss::Cut, Loss::GivenUp] {
        let cuts = (0..).map_while(|cut| asked_over_a_carrier_that_breaks(cut, Side::Caller, loss));
        let served: Vec<bool> = cuts.collect();
        assert!(served.len() > 50 && served.iter().all(|served| !served), "{served:?}");
    }
    let cuts =
        (0..).map_while(|cut| asked_over_a_carrier_that_breaks(cut, Side::Server, Loss::Cut));
    let served: Vec<bool> = cuts.collect();
    let (last, others) = served.split_last().unwrap();
    assert!(*last && others.iter().all(|served| !served), "only the whole request runs");
}

#[test]
fn a_stream_may_move_in_the_middle_of_an_item() {
    let window = Window { items: 10, bytes: 1 << 20 };
    let stream = Stream::new(0, window, 0);
    let mut world = World::new(vec![stream], settings(Role::Dialler, false));
    begin(&mut world);
    run(&mut world, &Op::Push { stream: 0, lens: vec![5, 3 * CHUNK], flush: true });
    world.write(0, Side::Server, CHUNK + 100);
    world.deliver(0, Side::Caller, usize::MAX);
    // The server still takes the old carrier for a good one, and is in the middle of a write.
    world.lose(0, Side::Caller, Loss::Cut);
    world.connect();
    begin_on(&mut world, 1);
    world.take(0);
    world.exchange(1);
    world.take(0);
    assert_eq!(world.streams[0].caller.taken(), 2, "it moved");
    world.settle(None);
    assert_eq!(world.streams[0].caller.taken(), 3);
    world.end();
}

#[test]
fn a_refusal_that_is_lost_with_its_carrier_comes_again() {
    let window = Window { items: 1, bytes: 1 };
    for first in Side::BOTH {
        for is_late in [false, true] {
            let stream = Stream::new(0, window, 0);
            let mut world = World::new(vec![stream], settings(Role::Dialler, false));
            begin(&mut world);
            if is_late {
                world.lose(0, first, Loss::Cut);
            }
            run(&mut world, &Op::Finish { stream: 0, end: End::Reject });
            if !is_late {
                world.lose(0, first, Loss::Cut);
            }
            world.settle(None);
            let ended = world.streams[0].caller.ended();
            assert!(matches!(ended, Some(Ended::Terminal(Terminal::Failed { .. }))), "{ended:?}");
            world.end();
        }
    }
}

#[test]
fn streams_end_when_their_grace_is_over_and_not_before() {
    let window = Window { items: 10, bytes: 1 << 20 };
    let ended_after = |time: Duration| {
        let stream = Stream::new(0, window, 0);
        let mut world = World::new(vec![stream], settings(Role::Acceptor, false));
        begin(&mut world);
        run(&mut world, &Op::Push { stream: 0, lens: vec![5, 6], flush: true });
        world.exchange(0);
        Side::BOTH.iter().for_each(|side| world.lose(0, *side, Loss::Cut));
        world.pass(time);
        let is_killed = world.streams[0].handler.as_ref().unwrap().context().is_killed();
        world.take(0);
        world.settle(None);
        let ended = world.streams[0].caller.ended().cloned();
        world.end();
        (is_killed, ended)
    };
    let (is_killed, ended) = ended_after(GRACE - Duration::from_millis(1));
    assert!(!is_killed);
    assert!(matches!(ended, Some(Ended::Terminal(Terminal::Complete { items: 3 }))), "{ended:?}");
    let (is_killed, ended) = ended_after(GRACE);
    assert!(is_killed);
    let Some(Ended::Lost(error)) = ended else { panic!("{ended:?}") };
    assert_eq!(error.code(), Code::Truncated);
}

#[test]
fn a_stream_that_nobody_reads_holds_up_no_other() {
    let window = Window { items: 4, bytes: 1 << 20 };
    let streams = (0..STREAMS).map(|number| Stream::new(number, window, 0)).collect();
    let mut world = World::new(streams, settings(Role::Dialler, false));
    begin(&mut world);
    for _ in 0..50 {
        for stream in 0..STREAMS {
            run(&mut world, &Op::Push { stream, lens: vec![15_000; 4], flush: true });
        }
        world.exchange(0);
        for stream in 1..STREAMS {
            run(&mut world, &Op::Take { stream });
            run(&mut world, &Op::Take { stream });
        }
    }
    let made =
        |world: &World, stream: usize| world.streams[stream].handler.as_ref().unwrap().made.len();
    assert_eq!(made(&world, 0), 4, "its window, and no more");
    for stream in 1..STREAMS {
        let taken = world.streams[stream].caller.taken();
        assert!(taken > 50, "{taken} items");
    }
    world.settle(Some(0));
    assert!(world.streams[1..].iter().all(Stream::has_ended));
    assert_eq!(made(&world, 0), 4, "nobody has read it");
    world.settle(None);
    world.end();
}

#[test]
fn a_producer_that_keeps_less_than_it_was_granted_goes_on() {
    // Half of this window is far more than the producer's limit.
    let window = Window { items: u32::MAX, bytes: u32::MAX };
    let stream = Stream::new(0, window, 0);
    let mut world = World::new(vec![stream], settings(Role::Dialler, false));
    begin(&mut world);
    for _ in 0..20 {
        for lens in [vec![40_000; 2], vec![1; 300]] {
            run(&mut world, &Op::Push { stream: 0, lens, flush: true });
            world.exchange(0);
            // The second counts what came with the first as consumed.
            run(&mut world, &Op::Take { stream: 0 });
            run(&mut world, &Op::Take { stream: 0 });
            world.exchange(0);
        }
    }
    world.settle(None);
    let taken = world.streams[0].caller.taken();
    assert!(taken > 1_000, "{taken} items");
    world.end();
}

#[test]
fn streams_that_move_between_carriers_that_are_up_lose_and_double_nothing() {
    let window = Window { items: 10, bytes: 1 << 20 };
    let streams = (0..STREAMS).map(|number| Stream::new(number, window, 0)).collect();
    let mut world = World::new(streams, settings(Role::Acceptor, false));
    begin(&mut world);
    world.connect();
    for at in 0..2 {
        world.exchange(at);
    }
    for round in 0..40 {
        for stream in 0..STREAMS {
            // Some arrives before the move, and some is on the way over the carrier that is left.
            run(&mut world, &Op::Push { stream, lens: vec![3, 70_000], flush: true });
        }
        for at in 0..2 {
            world.write(at, Side::Server, usize::MAX);
            world.deliver(at, Side::Caller, 40_000);
        }
        // A connection more each time, as streams go to the newest alone.
        world.connect();
        let newest = round + 2;
        world.exchange(newest);
        world.exchange(newest);
        let moved: usize = (0..newest).map(|at| world.move_streams(at, usize::MAX)).sum();
        assert!(moved == STREAMS || round == 0, "{moved} in round {round}");
        for at in 0..=newest {
            world.exchange(at);
        }
        for stream in 0..STREAMS {
            run(&mut world, &Op::Take { stream });
        }
        for at in 0..=newest {
            world.exchange(at);
        }
    }
    world.settle(None);
    for stream in &world.streams {
        let taken = stream.caller.taken();
        assert!(taken > 30, "{taken} items");
    }
    world.end();
}

#[test]
fn what_has_arrived_of_an_item_is_let_go_of_behind_a_move() {
    let window = Window { items: 1, bytes: 1 };
    let stream = Stream::new(0, window, 0);
    let mut world = World::new(vec![stream], settings(Role::Dialler, false));
    begin(&mut world);
    run(&mut world, &Op::Push { stream: 0, lens: vec![150_000], flush: true });
    for at in 0..3 {
        // More than a chunk, and less than the item.
        for _ in 0..2 {
            world.write(at, Side::Server, CHUNK);
            world.deliver(at, Side::Caller, usize::MAX);
        }
        world.check();
        world.connect();
        for _ in 0..2 {
            world.exchange(at + 1);
        }
        assert_eq!(world.move_streams(at, 1), 1);
        world.check();
        world.write(at + 1, Side::Caller, usize::MAX);
        world.deliver(at + 1, Side::Server, usize::MAX);
    }
    // The connections that it has left look at their timers.
    world.pass(Duration::from_secs(10));
    world.check();
    world.settle(None);
    assert_eq!(world.streams[0].caller.taken(), 2);
    world.end();
}

#[test]
fn an_abandoned_stream_whose_move_is_lost_tells_its_handler_over_the_carrier_that_it_left() {
    let window = Window { items: 1, bytes: 1 };
    let stream = Stream::new(0, window, 0).telling();
    let mut world = World::new(vec![stream], settings(Role::Acceptor, false));
    begin(&mut world);
    world.connect();
    world.exchange(1);
    world.exchange(1);
    assert_eq!(world.move_streams(0, 1), 1);
    run(&mut world, &Op::Abandon { stream: 0 });
    // The attach has not left.
    world.lose(1, Side::Server, Loss::Cut);
    world.settle(None);
    world.end();
}

#[test]
fn a_stream_that_is_given_up_behind_a_lost_move_is_cancelled_on_the_carrier_that_it_left() {
    let stream = Stream::new(0, Window { items: 1, bytes: 1 }, 0).telling();
    let mut world = World::new(vec![stream], settings(Role::Dialler, false));
    begin(&mut world);
    world.connect();
    (0..2).for_each(|_| world.exchange(1));
    assert_eq!(world.move_streams(0, 1), 1);
    // The attach has not left, and no other follows.
    Side::BOTH.iter().for_each(|side| world.lose(1, *side, Loss::Cut));
    let is_killed =
        |world: &World| world.streams[0].handler.as_ref().unwrap().context().is_killed();
    let mut passed = Duration::ZERO;
    while !is_killed(&world) {
        assert!(passed < GRACE * 2, "the handler works on for nobody");
        passed += Duration::from_secs(1);
        world.pass(Duration::from_secs(1));
        world.exchange(0);
    }
    assert!(passed >= GRACE);
    world.settle(None);
    world.end();
}
