//! Rules of the comparison.

use super::*;
use crate::policy::config::PolicyConfig;

fn health() -> Health {
    let config = PolicyConfig { min_items: 100, min_ended: 20, ..PolicyConfig::default() };
    Health::new(Margins { error_points: 2.0, gap_percent: 50.0 }, &config.checked().unwrap())
}

fn ends(ended: u64, failed: u64) -> Ends {
    Ends { ended, failed }
}

/// One stream for a second.
fn flow(items: u64, due: f64) -> Flow {
    Flow { streams: 1, seconds: 1.0, items, due, known_from: 1000 }
}

fn group(streams: u32, items: u64) -> Flow {
    Flow { streams, seconds: streams.into(), items, due: 0.0, known_from: 0 }
}

fn seen(intervals: &[Interval]) -> Option<Worse> {
    let mut health = health();
    intervals.iter().for_each(|one| health.add(*one));
    health.worse(&AllEnds::default())
}

#[test]
fn errors_count_by_the_points_above_the_others_and_only_from_enough_ends_on() {
    let check = |there, elsewhere, before, is_worse| {
        let ends = AllEnds { there, elsewhere, before, ..AllEnds::default() };
        let worse = health().worse(&ends);
        assert_eq!(worse.is_some(), is_worse, "{ends:?}: {worse:?}");
        assert!(worse.is_none_or(|worse| worse.reason() == "errors"));
    };
    let none = Ends::default();
    check(ends(19, 19), none, none, false);
    check(ends(20, 2), none, none, false);
    check(ends(20, 3), none, none, true);
    check(ends(200, 4), none, none, false);
    check(ends(200, 5), none, none, true);
    // As bad as elsewhere, or as before where too few have ended elsewhere.
    check(ends(100, 12), ends(100, 10), none, false);
    check(ends(100, 13), ends(100, 10), none, true);
    check(ends(100, 13), ends(100, 0), ends(100, 50), true);
    check(ends(100, 13), ends(19, 0), ends(100, 50), false);
}

#[test]
fn older_ends_count_for_less() {
    let mut ends = Ends::default();
    (0..10_000).for_each(|_| ends.count(false));
    (0..100).for_each(|_| ends.count(true));
    assert!(ends.share() > 5.0, "{ends:?}");
    assert!(ends.ended <= MAX_ENDED && ends.failed <= 100);
}

#[test]
fn a_transport_that_cannot_be_reached_is_worse_by_most_of_the_attempts() {
    let check = |tried, failed, is_worse| {
        let ends = AllEnds { attempts: ends(tried, failed), ..AllEnds::default() };
        let worse = health().worse(&ends);
        assert_eq!(worse.is_some(), is_worse, "{failed} of {tried}");
        assert!(worse.is_none_or(|worse| worse.reason() == "unreachable"));
    };
    check(2, 2, false);
    check(3, 3, true);
    check(6, 3, false);
    check(5, 3, true);
    check(1000, 400, false);
}

#[test]
fn moved_streams_are_compared_with_their_own_past() {
    let check = |items, due, is_worse| {
        let worse = seen(&[Interval { moved: flow(items, due), ..Interval::default() }]);
        assert_eq!(worse.is_some(), is_worse, "{items} of {due}: {worse:?}");
        assert!(worse.is_none_or(|worse| worse.reason() == "gap"));
    };
    check(150, 150.0, false);
    check(100, 150.0, false);
    check(99, 150.0, true);
    check(0, 150.0, true);
    check(0, 99.0, false);
    check(1_000_000, 100.0, false);
    let little_known = Flow { known_from: 99, ..flow(0, 500.0) };
    assert_eq!(seen(&[Interval { moved: little_known, ..Interval::default() }]), None);
}

#[test]
fn what_all_streams_do_is_not_the_fault_of_the_transport() {
    let halved =
        Interval { moved: flow(500, 1000.0), stayed: flow(500, 1000.0), ..Interval::default() };
    assert_eq!(seen(&[halved]), None, "all are slower");
    let faster = Interval { moved: flow(1000, 1000.0), stayed: flow(2000, 1000.0), ..halved };
    assert!(seen(&[faster]).is_some(), "all others became faster");
    // What the others did before the moved ones were there does not count.
    let before = Interval { stayed: flow(1000, 1000.0), ..Interval::default() };
    let paused = Interval { moved: flow(0, 1000.0), stayed: flow(0, 1000.0), ..before };
    assert_eq!(seen(&[before, before, paused]), None, "all pause");
    let alone = Interval { stayed: flow(0, 99.0), ..halved };
    assert!(seen(&[alone]).is_some(), "too little is known of the others");
}

#[test]
fn streams_without_a_past_are_compared_in_groups() {
    let check = |there, elsewhere, is_worse| {
        let interval =
            Interval { began_there: there, began_elsewhere: elsewhere, ..Interval::default() };
        let worse = seen(&[interval]);
        assert_eq!(worse.is_some(), is_worse, "{there:?} {elsewhere:?}: {worse:?}");
    };
    check(group(16, 160), group(16, 160), false);
    check(group(16, 160), group(16, 1600), true);
    check(group(15, 150), group(16, 1600), false);
    check(group(16, 160), group(15, 1500), false);
    check(group(16, 0), group(16, 99), false);
}

#[test]
fn what_went_well_long_ago_does_not_hide_what_goes_wrong_now() {
    let of = |items, due| Interval { moved: flow(items, due), ..Interval::default() };
    let mut all = vec![of(100, 100.0); 1000];
    assert_eq!(seen(&all), None);
    all.extend([of(0, 100.0); 3]);
    assert_eq!(seen(&all), None, "a pause of 3 intervals in 10 is within the margin");
    all.extend([of(0, 100.0); 1]);
    assert!(seen(&all).is_some());
}

#[test]
fn connections_that_are_lost_again_and_again_are_worse_and_one_that_is_lost_is_not() {
    let lost = |left| Interval { left, ..Interval::default() };
    assert_eq!(seen(&[lost(500), lost(500)]), None);
    assert_eq!(seen(&[lost(1), lost(0), lost(1)]), None);
    let worse = seen(&[lost(1), lost(0), lost(1), lost(2)]);
    assert_eq!(worse, Some(Worse::Lost { times: 3, left: 4 }));
    let mut seldom = vec![lost(1), lost(1)];
    seldom.extend([lost(0); 9]);
    seldom.push(lost(1));
    assert_eq!(seen(&seldom), None);
}

#[test]
fn a_report_has_the_figures() {
    let texts = [
        (Worse::Errors { share: 12.5, base: 1.0, ended: 40 }, "12.5 % of 40 streams over it ended"),
        (
            Worse::Gap { millis: 20.0, base: 5.5, items: 7 },
            "is 20.000 ms instead of 5.500 ms, by 7",
        ),
        (Worse::Unreachable { failed: 3, tried: 4 }, "3 of 4 attempts to reach it failed"),
    ];
    for (worse, part) in texts {
        assert!(worse.to_string().contains(part), "{worse}");
    }
}
