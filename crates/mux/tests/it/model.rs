//! Two processes over in-memory pipes, driven as production drives them: what must hold whatever
//! happens on the way.
//!
//! I1 one terminal and nothing after it, I2 the caller's items are the handler's prefix across
//! carriers, I3 the end is the true one, I4 what is kept is bounded by the window. And a request
//! that is said not to have run does not reach a handler, before or after. No end may ever find
//! that the other broke the protocol.
//!
//! A third process takes streams over in between: what holds for the caller holds for it from the
//! item on that it asked for, also with a smaller window than the caller's. And a consumer that has
//! the end of a stream has its newest checkpoint.
//!
//! What proves the right to a stream is tried in any order too. An attach that arrives behind a later
//! one does not take the stream back (the counter: `Overtake`). An attach with another secret, id or
//! origin gets nothing, is not told what there is, and does no harm (`Guess`).
//!
//! The memory of all ends is charged, bounded, and given back at the end; there is always room for
//! it, so no stream is given up for want of memory here. Responses that are retained, their budget
//! and their several readers have a model of their own, in `retention/tests/model.rs` of
//! `sinew-ingress`; a resume in the process that reads the response is in `take_over`.

mod caller;
mod carrier;
mod cases;
mod guess;
mod handler;
mod stream;
mod take_over;
mod taker;
mod world;

use std::time::Duration;

use proptest::prelude::*;
use sinew_mux::Role;
use sinew_plane::{Code, StopKind, Window};

use self::{
    caller::Caller,
    carrier::{By, Loss, Side},
    guess::Wrong,
    handler::{End, Handler},
    stream::Stream,
    world::{Settings, World},
};

#[derive(Debug, Clone)]
enum Op {
    Push {
        stream: usize,
        lens: Vec<usize>,
        flush: bool,
    },
    Accept {
        stream: usize,
    },
    Finish {
        stream: usize,
        end: End,
    },
    Take {
        stream: usize,
    },
    Cancel {
        stream: usize,
        kind: StopKind,
    },
    Abandon {
        stream: usize,
    },
    Write {
        carrier: usize,
        side: Side,
        bytes: usize,
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
    /// Attaches a checkpoint of so many bytes to the next item.
    Checkpoint {
        stream: usize,
        len: usize,
    },
    /// The second process does something.
    ConnectSecond,
    TakeOver {
        stream: usize,
        shift: isize,
    },
    TakeTakenOver {
        stream: usize,
    },
    CancelTakenOver {
        stream: usize,
        kind: StopKind,
    },
    AbandonTakenOver {
        stream: usize,
    },
    /// A process asks for a stream without what that takes; maybe while it waits for its consumer.
    Guess {
        stream: usize,
        by: By,
        wrong: Wrong,
        waits: bool,
    },
    /// The streams of a process attach twice, and the first attach arrives last or later.
    Overtake {
        by: By,
        late: bool,
    },
    /// Up to so many streams leave a carrier that is up for the newest.
    Move {
        carrier: usize,
        most: usize,
    },
    /// Some more bytes arrive, and the ends are lost one after the other, or only the first.
    Lose {
        carrier: usize,
        to_caller: usize,
        to_server: usize,
        first: Side,
        loss: Loss,
        both: bool,
    },
    Pass {
        time: Duration,
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

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Caller), Just(Side::Server)]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => Just(End::Complete),
        1 => Just(End::Fail(Code::HandlerFailed)),
        1 => Just(End::Fail(Code::DeadlineExceeded)),
        1 => Just(End::Cancel),
        1 => Just(End::Reject),
        1 => Just(End::Drop),
    ]
}

fn by() -> impl Strategy<Value = By> {
    prop_oneof![Just(By::First), Just(By::Second)]
}

/// What the second process does, who has no right to a stream, and the checkpoints of the handler.
fn further() -> impl Strategy<Value = Op> {
    let stream = || 0..STREAMS;
    let kind = prop_oneof![Just(StopKind::Stop), Just(StopKind::Kill)];
    let shift = prop_oneof![8 => Just(0_isize), 1 => -3..0_isize, 1 => 1..4_isize];
    let len = prop_oneof![4 => 0..40_usize, 1 => 60_000..=65_536_usize];
    let wrong = prop_oneof![Just(Wrong::Secret), Just(Wrong::Origin), Just(Wrong::Stream)];
    prop_oneof![
        4 => (stream(), len).prop_map(|(stream, len)| Op::Checkpoint { stream, len }),
        3 => Just(Op::ConnectSecond),
        8 => (stream(), shift).prop_map(|(stream, shift)| Op::TakeOver { stream, shift }),
        6 => stream().prop_map(|stream| Op::TakeTakenOver { stream }),
        1 => (stream(), kind)
            .prop_map(|(stream, kind)| Op::CancelTakenOver { stream, kind }),
        1 => stream().prop_map(|stream| Op::AbandonTakenOver { stream }),
        2 => (stream(), by(), wrong, any::<bool>())
            .prop_map(|(stream, by, wrong, waits)| Op::Guess { stream, by, wrong, waits }),
        1 => (by(), any::<bool>()).prop_map(|(by, late)| Op::Overtake { by, late }),
    ]
}

fn lose() -> impl Strategy<Value = Op> {
    let loss = prop_oneof![Just(Loss::Cut), Just(Loss::Reset), Just(Loss::GivenUp)];
    (0..4_usize, some_bytes(), some_bytes(), side(), loss, prop::bool::weighted(0.4)).prop_map(
        |(carrier, to_caller, to_server, first, loss, both)| Op::Lose {
            carrier,
            to_caller,
            to_server,
            first,
            loss,
            both,
        },
    )
}

/// Passes of time are at most as long as given, in milliseconds.
fn op(longest: u64) -> impl Strategy<Value = Op> {
    let stream = || 0..STREAMS;
    let carrier = || 0..4_usize;
    let kind = prop_oneof![Just(StopKind::Stop), Just(StopKind::Kill)];
    prop_oneof![
        16 => (stream(), prop::collection::vec(item_len(), 1..6), prop::bool::weighted(0.8))
            .prop_map(|(stream, lens, flush)| Op::Push { stream, lens, flush }),
        2 => stream().prop_map(|stream| Op::Accept { stream }),
        2 => (stream(), end()).prop_map(|(stream, end)| Op::Finish { stream, end }),
        12 => stream().prop_map(|stream| Op::Take { stream }),
        1 => (stream(), kind).prop_map(|(stream, kind)| Op::Cancel { stream, kind }),
        1 => stream().prop_map(|stream| Op::Abandon { stream }),
        12 => (carrier(), side(), some_bytes())
            .prop_map(|(carrier, side, bytes)| Op::Write { carrier, side, bytes }),
        12 => (carrier(), side(), some_bytes())
            .prop_map(|(carrier, side, bytes)| Op::Deliver { carrier, side, bytes }),
        6 => carrier().prop_map(|carrier| Op::Exchange { carrier }),
        2 => Just(Op::Connect),
        8 => Just(Op::Reach),
        3 => (carrier(), 1..=STREAMS).prop_map(|(carrier, most)| Op::Move { carrier, most }),
        4 => lose(),
        12 => further(),
        3 => (0..longest).prop_map(|ms| Op::Pass { time: Duration::from_millis(ms) }),
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
    let handler = |world: &mut World, stream, act: &dyn Fn(&mut Handler)| {
        world.stream(stream, |stream| stream.handler.iter_mut().for_each(act));
    };
    match *op {
        Op::Push { stream, ref lens, flush } => {
            // What leaves at once was made together.
            world.stream(stream, |stream| match flush && lens.len() > 1 {
                true => stream.push_run(lens),
                false => lens.iter().for_each(|len| stream.push(*len)),
            });
            if flush {
                handler(world, stream, &|handler| handler.flush());
            }
        }
        Op::Accept { stream } => handler(world, stream, &Handler::accept),
        Op::Finish { stream, end } => handler(world, stream, &|handler| handler.end(end)),
        Op::Take { stream } => world.take(stream),
        Op::Cancel { stream, kind } => world.stream(stream, |stream| stream.caller.cancel(kind)),
        Op::Abandon { stream } => world.stream(stream, |stream| stream.caller.abandon()),
        Op::Connect => world.connect(),
        Op::Reach => world.reach(),
        Op::Checkpoint { stream, len } => {
            handler(world, stream, &|handler| handler.checkpoint(len));
        }
        Op::ConnectSecond => world.connect_by(By::Second),
        Op::TakeOver { stream, shift } => world.take_over(stream, shift),
        Op::TakeTakenOver { stream } => world.take_taken_over(stream),
        Op::CancelTakenOver { stream, kind } => {
            world.stream(stream, |stream| stream.with_taker(|taker| taker.cancel(kind)));
        }
        Op::AbandonTakenOver { stream } => {
            world.stream(stream, |stream| stream.with_taker(Caller::abandon));
        }
        Op::Guess { stream, by, wrong, waits } => {
            if waits {
                world.leave(By::First);
            }
            world.guess(stream, by, wrong);
            world.stream(stream, Stream::hear_of_guesses);
        }
        Op::Overtake { by, late } => world.overtake(by, late),
        Op::Move { carrier, most } => {
            if let Some(at) = world.pick(carrier) {
                world.move_streams(at, most);
            }
        }
        Op::Pass { time } => world.pass(time),
        Op::Write { carrier, side, bytes } => {
            if let Some(at) = world.pick(carrier) {
                world.write(at, side, bytes);
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
        Op::Lose { carrier, to_caller, to_server, first, loss, both } => {
            if let Some(at) = world.pick(carrier) {
                world.deliver(at, Side::Caller, to_caller);
                world.deliver(at, Side::Server, to_server);
                world.lose(at, first, loss);
                if both {
                    world.lose(at, first.other(), loss);
                }
            }
        }
    }
    world.check();
}

/// Greets and opens what goes at once.
fn begin(world: &mut World) {
    begin_on(world, 0);
}

/// The same on this carrier, the newest; streams that have lost theirs come to it.
fn begin_on(world: &mut World, at: usize) {
    for _ in 0..3 {
        world.exchange(at);
        world.reach();
    }
    world.exchange(at);
}

fn role(dialler: bool) -> Role {
    if dialler { Role::Dialler } else { Role::Acceptor }
}

fn settings(role: Role, integrity: bool) -> Settings {
    Settings { role, integrity, resume: [true; 2] }
}

/// One case, up to the end of all streams.
fn case(
    (setups, settings): (Vec<(Window, usize)>, Settings),
    begun: bool,
    ops: &[Op],
    stalled: Option<usize>,
) {
    let setups = setups.into_iter().enumerate();
    let streams = setups.map(|(number, (window, body))| Stream::new(number, window, body));
    let mut world = World::new(streams.collect(), settings);
    if begun {
        begin(&mut world);
    }
    for op in ops {
        run(&mut world, op);
    }
    world.settle(stalled);
    world.settle(None);
    world.end();
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
        ops in prop::collection::vec(op(1_000), 0..120),
    ) {
        case((setups, settings(role(dialler), integrity)), begun, &ops, stalled);
    }

    #[test]
    fn streams_that_nobody_keeps_for_long_enough_end_as_they_are(
        setups in setups(),
        dialler: bool,
        integrity: bool,
        resume: [bool; 2],
        begun in prop::bool::weighted(0.8),
        stalled in prop::option::of(0..STREAMS),
        ops in prop::collection::vec(op(16_000), 0..120),
    ) {
        let settings = Settings { resume, ..settings(role(dialler), integrity) };
        case((setups, settings), begun, &ops, stalled);
    }
}
