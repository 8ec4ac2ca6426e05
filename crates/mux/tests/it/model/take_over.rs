//! Cases in which a second process takes over what the first has opened.

use sinew_mux::Role;
use sinew_plane::{Code, Executed, ResumeToken, Terminal, Window};

use super::{
    Op, begin,
    carrier::{By, Loss, Side},
    run, settings,
    stream::{Ended, Stream},
    world::World,
};

const WINDOW: Window = Window { items: 10, bytes: 1 << 20 };

fn world(streams: usize) -> World {
    let streams = (0..streams).map(|number| Stream::new(number, WINDOW, 0));
    World::new(streams.collect(), settings(Role::Dialler, false))
}

fn lose(world: &mut World, at: usize) {
    Side::BOTH.iter().for_each(|side| world.lose(at, *side, Loss::Cut));
}

/// One more carrier of a process, that can be used.
fn connect(world: &mut World, by: By, at: usize) {
    world.connect_by(by);
    (0..2).for_each(|_| world.exchange(at));
}

/// The first stream waits for its consumer, which has heard nothing of it. The second process has
/// carrier 1.
fn waiting(streams: usize) -> World {
    let mut world = world(streams);
    (0..2).for_each(|_| world.exchange(0));
    world.open(1);
    world.write(0, Side::Caller, usize::MAX);
    world.deliver(0, Side::Server, usize::MAX);
    lose(&mut world, 0);
    connect(&mut world, By::Second, 1);
    world
}

fn ended_of_taker(world: &World) -> Option<&Ended> {
    world.streams[0].taker.as_ref()?.caller.ended()
}

/// Both come to their ends, and the second process has the stream.
fn check_taken_over(mut world: World) {
    world.settle(None);
    let ended = ended_of_taker(&world);
    assert!(matches!(ended, Some(Ended::Terminal(Terminal::Complete { .. }))), "{ended:?}");
    let Some(Ended::Lost(error)) = world.streams[0].caller.ended() else { panic!("it has it too") };
    assert_ne!(error.executed(), Executed::No);
    world.end();
}

#[test]
fn another_process_goes_on_from_where_the_caller_was() {
    let mut world = world(1);
    begin(&mut world);
    run(&mut world, &Op::Push { stream: 0, lens: vec![3, 40_000], flush: true });
    run(&mut world, &Op::Checkpoint { stream: 0, len: 9 });
    run(&mut world, &Op::Push { stream: 0, lens: vec![5, 6], flush: true });
    world.exchange(0);
    run(&mut world, &Op::Take { stream: 0 });
    assert_eq!(world.streams[0].caller.taken(), 4);
    lose(&mut world, 0);
    connect(&mut world, By::Second, 1);
    world.take_over(0, -3);
    (0..2).for_each(|_| world.exchange(1));
    world.take_taken_over(0);
    let taker = world.streams[0].taker.as_ref().unwrap();
    assert_eq!(taker.caller.taken(), 3, "from the second item on");
    assert_eq!(taker.caller.checkpoint().map(|it| it.items), Some(3));
    check_taken_over(world);
}

#[test]
fn a_stream_is_given_away_only_while_it_waits_and_only_from_what_is_there() {
    let mut world = world(1);
    begin(&mut world);
    run(&mut world, &Op::Push { stream: 0, lens: vec![1; 10], flush: true });
    world.exchange(0);
    // The second look acknowledges what came with the first.
    (0..2).for_each(|_| run(&mut world, &Op::Take { stream: 0 }));
    world.exchange(0);
    connect(&mut world, By::Second, 1);
    let refused = |world: &mut World, shift| {
        world.take_over(0, shift);
        (0..2).for_each(|_| world.exchange(1));
        world.take_taken_over(0);
        match ended_of_taker(world) {
            Some(Ended::Terminal(Terminal::Failed { error })) => {
                assert_eq!(error.code(), Code::ResumeExpired);
                error.resume_window()
            }
            ended => panic!("{ended:?}"),
        }
    };
    assert_eq!(refused(&mut world, 0), None, "it has a consumer");
    lose(&mut world, 0);
    assert_eq!(refused(&mut world, -3), Some((10, 10)));
    assert_eq!(refused(&mut world, 1), Some((10, 10)));
    world.take_over(0, 0);
    (0..2).for_each(|_| world.exchange(1));
    check_taken_over(world);
}

#[test]
fn a_process_does_not_take_its_own_stream_from_its_reader() {
    let mut world = world(1);
    begin(&mut world);
    run(&mut world, &Op::Push { stream: 0, lens: vec![1; 3], flush: true });
    world.exchange(0);
    connect(&mut world, By::First, 1);
    let refused = |world: &World, at| {
        let error = world.ask_for((0, 0), at);
        assert_eq!((error.code(), error.resume_window()), (Code::ResumeExpired, None));
    };
    // Over its connection, over another one, and while it waits.
    refused(&world, 0);
    refused(&world, 1);
    lose(&mut world, 0);
    refused(&world, 1);
    world.settle(None);
    let ended = world.streams[0].caller.ended();
    assert!(matches!(ended, Some(Ended::Terminal(Terminal::Complete { .. }))), "{ended:?}");
    world.end();
}

#[test]
fn what_is_beyond_all_items_is_refused_before_it_is_asked_for() {
    let mut world = waiting(1);
    for item in [ResumeToken::MAX_ITEM + 1, u64::MAX] {
        let error = world.ask_for((0, item), 1);
        assert!(error.to_string().contains(&item.to_string()), "{error}");
        assert_eq!(error.code(), Code::ResumeExpired);
    }
    world.take_over(0, 0);
    (0..2).for_each(|_| world.exchange(1));
    check_taken_over(world);
}

#[test]
fn an_earlier_consumer_that_comes_back_late_does_not_hear_that_nothing_ran() {
    let mut world = waiting(1 + 900);
    world.take_over(0, 0);
    (0..2).for_each(|_| world.exchange(1));
    connect(&mut world, By::First, 2);
    // More than the ids that are remembered of a process. The ends of some are acknowledged with the
    // requests of the next.
    for all in [300, 600, 900] {
        world.open(1 + all);
        for _ in 0..6 {
            world.exchange(2);
            for number in 1..=all {
                world.take(number);
                world.stream(number, Stream::wind_up);
            }
        }
        assert!(world.streams[1..=all].iter().all(Stream::has_ended));
    }
    world.come_back(By::First);
    check_taken_over(world);
}

#[test]
fn a_goaway_that_crosses_a_taking_over_does_not_say_that_nothing_ran() {
    let mut world = waiting(1);
    world.take_over(0, 0);
    world.go_away(1);
    world.write(1, Side::Server, usize::MAX);
    world.deliver(1, Side::Caller, usize::MAX);
    world.take_taken_over(0);
    let Some(Ended::Lost(error)) = ended_of_taker(&world) else { panic!("it goes on") };
    assert_eq!(error.executed(), Executed::Maybe);
    lose(&mut world, 1);
    world.settle(None);
    world.end();
}

#[test]
fn a_stream_that_is_given_away_counts_the_attaches_of_its_new_consumer() {
    let mut world = waiting(1);
    // The earlier one has attached it twice.
    for at in 2..4 {
        connect(&mut world, By::First, at);
        world.come_back(By::First);
        (0..2).for_each(|_| world.exchange(at));
        lose(&mut world, at);
    }
    world.take_over(0, 0);
    world.write(1, Side::Caller, usize::MAX);
    // Its new connection is lost when it is handed over.
    world.lose_before_it_is_read(1);
    world.deliver(1, Side::Server, usize::MAX);
    lose(&mut world, 1);
    connect(&mut world, By::Second, 4);
    world.come_back(By::Second);
    (0..2).for_each(|_| world.exchange(4));
    check_taken_over(world);
}

#[test]
fn a_taking_over_that_is_lost_on_its_way_or_whose_answer_is_lost_is_made_again() {
    for arrives in [false, true] {
        let mut world = waiting(1);
        world.take_over(0, 0);
        if arrives {
            world.write(1, Side::Caller, usize::MAX);
            world.deliver(1, Side::Server, usize::MAX);
        }
        lose(&mut world, 1);
        connect(&mut world, By::Second, 2);
        world.come_back(By::Second);
        (0..2).for_each(|_| world.exchange(2));
        check_taken_over(world);
    }
}
