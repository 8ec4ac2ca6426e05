//! Producers and consumers over real frames: what must hold whatever happens on the way.
//!
//! I1 one terminal and nothing after it, I2 the consumer's items are the producer's prefix across
//! carriers, I3 the end is the true one, I4 what is kept is bounded by the window. A violation
//! of I1 shows as an error of the consumer, which nothing here may cause.

mod carrier;
mod stream;
mod world;

use proptest::prelude::*;
use sinew_mux::Role;
use sinew_plane::{StopKind, Window};

use self::{
    carrier::Side,
    stream::{Stream, terminal},
    world::World,
};

#[derive(Debug, Clone)]
enum Op {
    Push {
        stream: usize,
        lens: Vec<usize>,
    },
    Accept {
        stream: usize,
    },
    Finish {
        stream: usize,
        terminal: u8,
    },
    /// The handler's side gives up what is not sent, and its end is declared before or later.
    Discard {
        stream: usize,
    },
    Take {
        stream: usize,
    },
    Cancel {
        stream: usize,
        kind: StopKind,
    },
    Write {
        carrier: usize,
        side: Side,
        turns: usize,
    },
    Deliver {
        carrier: usize,
        side: Side,
        bytes: usize,
    },
    Exchange {
        carrier: usize,
    },
    Connect,
    Reach,
    Lose {
        carrier: usize,
        to_caller: usize,
        to_server: usize,
    },
    Migrate {
        stream: usize,
    },
}

const STREAMS: usize = 4;
const CHUNK: usize = 64 << 10;

fn item_len() -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => Just(0),
        6 => 1..60_usize,
        2 => 2_040..2_060_usize,
        2 => CHUNK - 2..CHUNK + 3,
        2 => 2 * CHUNK - 1..2 * CHUNK + 2,
        2 => 100_000..150_000_usize,
    ]
}

/// How many bytes go at once: inside a header, a few frames, or all.
fn some_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0..20_usize, 3 => 0..3_000_usize, 2 => 0..200_000_usize, 2 => Just(usize::MAX)]
}

fn op() -> impl Strategy<Value = Op> {
    let stream = || 0..STREAMS;
    let carrier = || 0..4_usize;
    let side = || prop_oneof![Just(Side::Caller), Just(Side::Server)];
    // Few turns leave items sent in part.
    let turns = prop_oneof![1..4_usize, Just(usize::MAX)];
    let kind = prop_oneof![Just(StopKind::Stop), Just(StopKind::Kill)];
    prop_oneof![
        16 => (stream(), prop::collection::vec(item_len(), 1..6))
            .prop_map(|(stream, lens)| Op::Push { stream, lens }),
        2 => stream().prop_map(|stream| Op::Accept { stream }),
        2 => (stream(), 0..6_u8).prop_map(|(stream, terminal)| Op::Finish { stream, terminal }),
        1 => stream().prop_map(|stream| Op::Discard { stream }),
        12 => stream().prop_map(|stream| Op::Take { stream }),
        1 => (stream(), kind).prop_map(|(stream, kind)| Op::Cancel { stream, kind }),
        12 => (carrier(), side(), turns)
            .prop_map(|(carrier, side, turns)| Op::Write { carrier, side, turns }),
        12 => (carrier(), side(), some_bytes())
            .prop_map(|(carrier, side, bytes)| Op::Deliver { carrier, side, bytes }),
        6 => carrier().prop_map(|carrier| Op::Exchange { carrier }),
        1 => Just(Op::Connect),
        6 => Just(Op::Reach),
        2 => (carrier(), some_bytes(), some_bytes()).prop_map(
            |(carrier, to_caller, to_server)| Op::Lose { carrier, to_caller, to_server }
        ),
        6 => stream().prop_map(|stream| Op::Migrate { stream }),
    ]
}

/// Windows and the lengths of the request bodies.
fn setups() -> impl Strategy<Value = Vec<(Window, usize)>> {
    let items = prop_oneof![1..4_u32, 1..40_u32, Just(400_u32)];
    let bytes = prop_oneof![1..100_u32, 1..100_000_u32, Just(1_000_000_u32)];
    let body = prop_oneof![0..100_usize, 0..30_000_usize];
    let setup =
        (items, bytes, body).prop_map(|(items, bytes, body)| (Window { items, bytes }, body));
    prop::collection::vec(setup, 1..=STREAMS)
}

fn run(world: &mut World, op: &Op) {
    match *op {
        Op::Push { stream, ref lens } => {
            world.serve(stream, |stream| lens.iter().for_each(|len| stream.push(*len)));
        }
        Op::Accept { stream } => world.serve(stream, |stream| {
            stream.server.as_mut().unwrap().producer.accept();
        }),
        Op::Finish { stream, terminal: which } => world.serve(stream, |stream| {
            let server = stream.server.as_mut().unwrap();
            server.finish(terminal(which, server.producer.pushed()));
        }),
        Op::Discard { stream } => world.serve(stream, |stream| {
            stream.server.as_mut().unwrap().discard();
        }),
        Op::Take { stream } => world.take(stream),
        Op::Cancel { stream, kind } => world.cancel(stream, kind),
        Op::Connect => world.connect(),
        Op::Reach => world.reach(),
        Op::Migrate { stream } => world.migrate(stream),
        Op::Write { carrier, side, turns } => {
            if let Some(at) = world.pick(carrier) {
                world.write(at, side, turns);
            }
        }
        Op::Deliver { carrier, side, bytes } => {
            if let Some(at) = world.pick(carrier) {
                world.deliver(at, side, bytes);
            }
        }
        Op::Exchange { carrier } => {
            if let Some(at) = world.pick(carrier) {
                world.exchange(at);
            }
        }
        Op::Lose { carrier, to_caller, to_server } => {
            if let Some(at) = world.pick(carrier) {
                world.lose(at, to_caller, to_server);
            }
        }
    }
    world.check();
}

/// Greets and opens what goes at once.
fn begin(world: &mut World) {
    for _ in 0..3 {
        world.exchange(0);
        world.reach();
    }
    world.exchange(0);
}

fn role(dialler: bool) -> Role {
    if dialler { Role::Dialler } else { Role::Acceptor }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_survive_whatever_happens_to_their_carriers(
        setups in setups(),
        dialler: bool,
        integrity: bool,
        begun in prop::bool::weighted(0.8),
        stalled in prop::option::of(0..STREAMS),
        ops in prop::collection::vec(op(), 0..120),
    ) {
        let setups = setups.into_iter().enumerate();
        let streams = setups.map(|(number, (window, body))| Stream::new(number, window, body));
        let mut world = World::new(streams.collect(), role(dialler), integrity);
        if begun {
            begin(&mut world);
        }
        for op in &ops {
            run(&mut world, op);
        }
        world.settle(stalled);
        world.settle(None);
        world.streams.iter_mut().for_each(Stream::take);
        world.streams.iter().for_each(Stream::check_end);
    }
}

/// Four items, one of no bytes and one in chunks, of a stream whose carrier breaks after `cut`
/// bytes to the caller. False when there were fewer bytes.
fn broken_after(cut: usize, role: Role, integrity: bool) -> bool {
    let window = Window { items: 10, bytes: 1 << 20 };
    let mut world = World::new(vec![Stream::new(0, window, 5)], role, integrity);
    begin(&mut world);
    world.serve(0, |stream| [3, 0, 1, CHUNK + 9].into_iter().for_each(|len| stream.push(len)));
    run(&mut world, &Op::Finish { stream: 0, terminal: u8::MAX });
    let mut to_come = cut;
    let mut broken = false;
    for _ in 0..4 {
        world.write(0, Side::Server, usize::MAX);
        let there = world.on_the_way(0, Side::Caller);
        if there > to_come {
            world.lose(0, to_come, 0);
            broken = true;
            break;
        }
        to_come -= there;
        world.deliver(0, Side::Caller, usize::MAX);
    }
    world.settle(None);
    world.streams.iter_mut().for_each(Stream::take);
    world.streams[0].check_end();
    assert_eq!(world.streams[0].caller.consumer.received(), 4);
    broken
}

#[test]
fn a_carrier_may_break_at_every_byte() {
    for (role, integrity) in [(Role::Dialler, false), (Role::Acceptor, true)] {
        // Every byte around the frames' borders, and some in the middle of the chunk.
        let cuts = (0..100).chain((100..CHUNK).step_by(9_973)).chain(CHUNK - 20..CHUNK + 200);
        let broken = cuts.filter(|cut| broken_after(*cut, role, integrity)).count();
        assert!(broken > 170, "only {broken} cuts fell into the response");
    }
}

#[test]
fn a_stream_may_move_in_the_middle_of_an_item() {
    let window = Window { items: 10, bytes: 1 << 20 };
    let mut world = World::new(vec![Stream::new(0, window, 0)], Role::Dialler, false);
    begin(&mut world);
    world.serve(0, |stream| [5, 3 * CHUNK].into_iter().for_each(|len| stream.push(len)));
    world.write(0, Side::Server, 1);
    world.deliver(0, Side::Caller, usize::MAX);
    world.migrate(0);
    // The attach overtakes nothing, and what is on the old number's way is skipped.
    world.write(0, Side::Caller, usize::MAX);
    world.deliver(0, Side::Server, usize::MAX);
    world.settle(None);
    world.streams[0].take();
    world.streams[0].check_end();
    assert_eq!(world.streams[0].caller.consumer.received(), 2);
}

#[test]
fn a_stream_that_nobody_reads_holds_up_no_other() {
    let window = Window { items: 4, bytes: 1 << 20 };
    let streams = (0..STREAMS).map(|number| Stream::new(number, window, 0)).collect();
    let mut world = World::new(streams, Role::Dialler, false);
    begin(&mut world);
    let received = |world: &World, stream: usize| world.streams[stream].caller.consumer.received();
    for _ in 0..50 {
        for stream in 0..STREAMS {
            run(&mut world, &Op::Push { stream, lens: vec![15_000; 4] });
        }
        world.exchange(0);
        for stream in 1..STREAMS {
            run(&mut world, &Op::Take { stream });
        }
    }
    assert_eq!(received(&world, 0), 4, "its window, and no more");
    for stream in 1..STREAMS {
        assert!(received(&world, stream) > 50, "{} items", received(&world, stream));
    }
    world.settle(Some(0));
    assert!(world.streams[1..].iter().all(Stream::has_ended));
    world.settle(None);
    world.streams.iter_mut().for_each(Stream::take);
    world.streams.iter().for_each(Stream::check_end);
}

#[test]
fn a_producer_that_keeps_less_than_it_was_granted_goes_on() {
    // Half of this window is far more than the producer's limit.
    let window = Window { items: u32::MAX, bytes: u32::MAX };
    let mut world = World::new(vec![Stream::new(0, window, 0)], Role::Dialler, false);
    begin(&mut world);
    for _ in 0..20 {
        run(&mut world, &Op::Push { stream: 0, lens: vec![40_000; 2] });
        world.exchange(0);
        run(&mut world, &Op::Take { stream: 0 });
        run(&mut world, &Op::Push { stream: 0, lens: vec![1; 300] });
        world.exchange(0);
        run(&mut world, &Op::Take { stream: 0 });
    }
    world.settle(None);
    world.streams[0].take();
    world.streams[0].check_end();
    assert!(world.streams[0].caller.consumer.received() > 1_000);
}
