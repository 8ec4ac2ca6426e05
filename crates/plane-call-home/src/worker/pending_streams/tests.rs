//! Many questions, and what becomes of those for which there is no place.

use std::net::Ipv4Addr;

use bytes::Bytes;
use sinew_plane::{
    Executed, Headers, InstanceId, PeerFacts, SinkTarget, Terminal, TransportId, TrySendError,
};

use super::{
    places::{MAX_PER_CALLER, MAX_QUESTIONS},
    *,
};

/// What a caller hears.
#[derive(Default)]
struct Heard(Mutex<Option<Terminal>>);

impl SinkTarget for Heard {
    fn poll_ready(&self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn try_send(&self, _: Bytes) -> Result<(), TrySendError> {
        Ok(())
    }

    fn head(&self, _: Headers) {}

    fn set_facts(&self, _: Headers) {}

    fn accept(&self) {}

    fn finish(&self, terminal: Terminal) {
        self.0.lock().get_or_insert(terminal);
    }

    fn flush(&self) {}
}

impl Heard {
    /// How it was refused, if it was.
    fn refusal(&self) -> Option<Error> {
        match self.0.lock().clone()? {
            Terminal::Failed { error } => Some(error),
            other => panic!("{other:?}"),
        }
    }
}

fn caller(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Asks as the caller with this port.
fn ask(questions: &Arc<PendingStreams>, port: u16, subject: Subject) -> (Arc<Heard>, Context) {
    let (heard, context) = (Arc::new(Heard::default()), Context::new());
    let target = Arc::clone(&heard) as Arc<dyn SinkTarget>;
    let request = IncomingRequest {
        endpoint: &format!("{CALL_HOME}{subject}"),
        instance: InstanceId(1),
        body: Bytes::new(),
        context: context.clone(),
        transport: &TransportId::from_static("tcp"),
        peer: &PeerFacts::UNKNOWN,
        attempt: 0,
        secret: 0,
    };
    questions.of(caller(port)).handle(request, ResponseSink::new(target, context.clone()));
    (heard, context)
}

fn questions() -> Arc<PendingStreams> {
    PendingStreams::new(Duration::from_secs(10))
}

fn taken(questions: &PendingStreams) -> usize {
    questions.state.lock().asked.len()
}

fn of(questions: &PendingStreams, port: u16) -> usize {
    questions.state.lock().asked.of(caller(port))
}

fn is_over(found: &Lookup) -> bool {
    matches!(found, Lookup::Over)
}

#[test]
fn one_caller_has_a_share_and_what_is_refused_never_finds_its_request() {
    let questions = questions();
    let mut kept = Vec::new();
    for _ in 0..MAX_PER_CALLER {
        kept.push(ask(&questions, 1, Subject::random(0)));
    }
    assert!(kept.iter().all(|(heard, _)| heard.refusal().is_none()));
    let subject = Subject::random(0);
    let (refused, _context) = ask(&questions, 1, subject);
    let error = refused.refusal().unwrap();
    assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));
    assert!(is_over(&questions.find(subject)), "its request does not run");
    let (other, _context) = ask(&questions, 2, Subject::random(0));
    assert!(other.refusal().is_none(), "another caller has places of its own");
    assert_eq!((of(&questions, 1), of(&questions, 2)), (MAX_PER_CALLER, 1));
}

/// With all places taken by others, whoever has fewer gets one of whoever has the most.
#[test]
fn a_caller_is_not_kept_out_by_those_that_have_all_the_places() {
    let questions = questions();
    let mut greedy = Vec::new();
    let callers = u16::try_from(MAX_QUESTIONS / MAX_PER_CALLER).unwrap();
    for port in 1..=callers {
        for _ in 0..MAX_PER_CALLER {
            let subject = Subject::random(0);
            greedy.push((subject, ask(&questions, port, subject)));
        }
    }
    assert_eq!(taken(&questions), MAX_QUESTIONS);
    let honest: Vec<_> = (0..50).map(|_| Subject::random(0)).collect();
    let heard: Vec<_> = honest.iter().map(|subject| ask(&questions, 99, *subject)).collect();
    assert!(heard.iter().all(|(heard, _)| heard.refusal().is_none()));
    assert_eq!((taken(&questions), of(&questions, 99)), (MAX_QUESTIONS, 50));
    for subject in honest {
        assert!(matches!(questions.find(subject), Lookup::OpenedStream(_)));
    }
    // What left for them was told so, and is not run.
    let left: Vec<_> = greedy.iter().filter(|(_, (heard, _))| heard.refusal().is_some()).collect();
    assert_eq!(left.len(), 50);
    for (subject, (heard, _)) in left {
        assert_eq!(heard.refusal().unwrap().executed(), Executed::No);
        // Over or, where others have taken its place among those remembered, not asked for.
        assert!(!matches!(questions.find(*subject), Lookup::OpenedStream(_)));
    }
}

#[test]
fn places_are_free_again_once_questions_are_answered_taken_back_or_old() {
    let questions = questions();
    let subjects: Vec<_> = (0..300).map(|_| Subject::random(0)).collect();
    let heard: Vec<_> = subjects.iter().map(|subject| ask(&questions, 1, *subject)).collect();
    for subject in &subjects[..100] {
        assert!(matches!(questions.find(*subject), Lookup::OpenedStream(_)));
    }
    for (_, context) in &heard[100..200] {
        context.kill();
    }
    assert_eq!((taken(&questions), of(&questions, 1)), (100, 100));
    questions.expire(Instant::now());
    assert_eq!(taken(&questions), 100);
    questions.expire(Instant::now() + Duration::from_secs(11));
    assert_eq!((taken(&questions), of(&questions, 1)), (0, 0));
    for (heard, _) in &heard[200..] {
        assert_ne!(heard.refusal().unwrap().executed(), Executed::No, "it may have run");
    }
}

#[test]
fn what_a_caller_takes_back_does_not_run_and_what_its_connection_loses_may() {
    let questions = questions();
    for (reason, over) in [
        (CancelReason::Caller, true),
        (CancelReason::DeadlineExceeded, true),
        (CancelReason::Disconnected, false),
    ] {
        let subject = Subject::random(0);
        let (_heard, context) = ask(&questions, 1, subject);
        context.cancel(StopKind::Kill, reason);
        assert_eq!(is_over(&questions.find(subject)), over, "{reason:?}");
    }
    // Cancelled before it asked.
    let subject = Subject::random(0);
    let (_heard, context) = ask(&questions, 1, subject);
    context.stop();
    assert!(
        matches!(questions.find(subject), Lookup::OpenedStream(_)),
        "its handler hears of the stop"
    );
}

/// The same request twice, as a broker or somebody who has heard it may deliver it.
#[test]
fn a_request_that_has_its_answer_does_not_get_another() {
    let questions = questions();
    let subject = Subject::random(0);
    let _asked = ask(&questions, 1, subject);
    assert!(matches!(questions.find(subject), Lookup::OpenedStream(_)));
    assert!(is_over(&questions.find(subject)));
    assert!(questions.asked(subject).is_none());
    // One that has come first, and the question after it.
    let subject = Subject::random(0);
    let Lookup::StreamWaiter(mut wanted) = questions.find(subject) else {
        panic!("nobody has asked")
    };
    let _asked = ask(&questions, 1, subject);
    assert!(wanted.told.try_recv().is_ok());
    assert!(is_over(&questions.find(subject)));
}

/// The caller sees the loss of its connection first, and asks over another.
#[test]
fn a_question_that_is_asked_again_takes_the_place_of_the_one_before() {
    let questions = questions();
    let subject = Subject::random(0);
    let (before, context) = ask(&questions, 1, subject);
    let (now, _context) = ask(&questions, 1, subject);
    assert_ne!(before.refusal().unwrap().executed(), Executed::No, "it may run yet");
    assert!(now.refusal().is_none());
    context.cancel(StopKind::Kill, CancelReason::Disconnected);
    assert_eq!((taken(&questions), of(&questions, 1)), (1, 1));
    let Lookup::OpenedStream(answer) = questions.find(subject) else { panic!("it was asked for") };
    answer.join(&Context::new()).complete();
    assert!(matches!(*now.0.lock(), Some(Terminal::Complete { .. })));
}

#[test]
fn a_question_whose_request_has_given_up_says_that_nothing_ran() {
    let questions = questions();
    let subject = Subject::random(0);
    let Lookup::StreamWaiter(wanted) = questions.find(subject) else { panic!("it came first") };
    let (told, _context) = ask(&questions, 1, subject);
    // The answer is on its way to the request, which goes without having looked.
    drop(wanted);
    let refusal = told.refusal().unwrap();
    assert_eq!((refusal.code(), refusal.executed()), (Code::Draining, Executed::No));
    assert!(matches!(questions.find(subject), Lookup::Over), "it cannot run any more");
}
