//! Takes good histories, breaks each in one way, and expects the break to be found.

use sinew_plane::{CancelReason, Error};

use super::*;

fn sent(numbers: impl IntoIterator<Item = u64>) -> Vec<Produced> {
    numbers.into_iter().map(|number| Produced::Item(crate::payload::numbered(number))).collect()
}

fn came(numbers: impl IntoIterator<Item = u64>) -> Vec<Observed> {
    numbers.into_iter().map(|number| Observed::Item(crate::payload::numbered(number))).collect()
}

fn complete() -> (Vec<Produced>, Vec<Observed>) {
    let (mut produced, mut observed) = (sent(0..5), came(0..5));
    produced.push(Produced::End(Terminal::Complete { items: 5 }));
    observed.push(Observed::End(Outcome::Complete { items: 5 }));
    (produced, observed)
}

#[track_caller]
fn assert_violates(invariant: &str, produced: &[Produced], observed: &[Observed]) -> Violation {
    let violation = check(produced, observed).expect_err("the break was not found");
    assert_eq!(violation.invariant(), invariant, "{violation}");
    assert!(violation.to_string().starts_with(invariant));
    violation
}

#[test]
fn good_histories_pass() {
    let (produced, observed) = complete();
    check(&produced, &observed).unwrap();

    let truncated = |n: u64| {
        let mut steps = came(0..n);
        steps.push(Observed::End(Outcome::Truncated { received: n }));
        steps
    };
    check(&produced, &truncated(3)).unwrap();
    check(&sent(0..5), &truncated(5)).unwrap();

    let error = Error::handler("broken");
    let mut failed = sent(0..2);
    failed.push(Produced::End(Terminal::Failed { error: error.clone() }));
    let mut told = came(0..2);
    told.push(Observed::End(Outcome::Failed { error }));
    check(&failed, &told).unwrap();

    let gone = Observed::End(Outcome::Failed { error: Error::new(Code::HandlerGone, "") });
    check(&[], &[gone]).unwrap();
    let lost = Observed::End(Outcome::Failed { error: Error::new(Code::ConnectionLost, "") });
    check(&sent(0..2), &[lost]).unwrap();
}

#[test]
fn a_dropped_item_is_found_wherever_it_stood() {
    for at in 0..5 {
        let (produced, mut observed) = complete();
        observed.remove(at);
        let violation = assert_violates("I2", &produced, &observed);
        assert_eq!(violation.0, Kind::Missing { at });
    }
}

#[test]
fn a_dropped_item_is_found_even_when_the_end_counts_it_out() {
    let (produced, mut observed) = complete();
    observed.truncate(4);
    observed.push(Observed::End(Outcome::Complete { items: 4 }));
    assert_violates("I2", &produced, &observed);
}

#[test]
fn a_doubled_item_is_found_wherever_it_stood() {
    for at in 0..5 {
        let (produced, mut observed) = complete();
        observed.insert(at, observed[at].clone());
        let violation = assert_violates("I2", &produced, &observed);
        assert_eq!(violation.0, Kind::Doubled { at: at + 1 });
    }
}

#[test]
fn swapped_items_are_found_wherever_they_stood() {
    for at in 0..4 {
        let (produced, mut observed) = complete();
        observed.swap(at, at + 1);
        let violation = assert_violates("I2", &produced, &observed);
        assert_eq!(violation.0, Kind::Swapped { at });
    }
}

#[test]
fn an_altered_item_and_one_from_elsewhere_are_found() {
    for at in 0..6 {
        let (produced, mut observed) = complete();
        let foreign = Observed::Item("foreign".into());
        if at < 5 {
            observed[at] = foreign;
        } else {
            observed.insert(5, foreign);
        }
        let violation = assert_violates("I2", &produced, &observed);
        assert_eq!(violation.0, Kind::Foreign { at });
    }
}

#[test]
fn a_second_end_is_found_at_either_side() {
    let (mut produced, observed) = complete();
    produced.push(produced[5].clone());
    assert_violates("I1", &produced, &observed);
    let (produced, mut observed) = complete();
    observed.push(observed[5].clone());
    assert_violates("I1", &produced, &observed);
}

#[test]
fn an_item_after_the_end_is_found_at_either_side() {
    let (mut produced, observed) = complete();
    produced.push(produced[0].clone());
    assert_violates("I1", &produced, &observed);
    let (produced, mut observed) = complete();
    observed.push(observed[0].clone());
    assert_violates("I1", &produced, &observed);
}

#[test]
fn a_missing_end_is_found() {
    let (produced, mut observed) = complete();
    observed.pop();
    assert_violates("I1", &produced, &observed);
}

#[test]
fn a_truncated_stream_passed_off_as_complete_is_found() {
    let mut observed = came(0..3);
    observed.push(Observed::End(Outcome::Complete { items: 3 }));
    // Its producer was lost, or had failed.
    assert_violates("I3", &sent(0..5), &observed);
    let mut failed = sent(0..3);
    failed.push(Produced::End(Terminal::Failed { error: Error::handler("") }));
    assert_violates("I3", &failed, &observed);
}

#[test]
fn ends_that_were_not_declared_are_found() {
    let tell = |outcome| {
        let mut steps = came(0..5);
        steps.push(Observed::End(outcome));
        steps
    };
    let (produced, _) = complete();
    let lost = Error::new(Code::ConnectionLost, "");
    let caller = CancelReason::Caller;
    for wrong in [
        Outcome::Failed { error: Error::handler("") },
        Outcome::Failed { error: Error::new(Code::HandlerGone, "") },
        Outcome::Failed { error: lost.clone() },
        Outcome::Cancelled { reason: caller },
        Outcome::Truncated { received: 4 },
        Outcome::Complete { items: 6 },
    ] {
        assert_violates("I3", &produced, &tell(wrong));
    }
    let mut cancelled = sent(0..5);
    cancelled.push(Produced::End(Terminal::Cancelled { reason: CancelReason::Shutdown }));
    assert_violates("I3", &cancelled, &tell(Outcome::Cancelled { reason: caller }));
    // After items a loss has to be called truncated.
    assert_violates("I3", &sent(0..5), &tell(Outcome::Failed { error: lost }));
}
